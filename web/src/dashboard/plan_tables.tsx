/** What fits into the memory that is left for the KV cache, and what other flags would make of it. */
import type { ComponentChildren } from "preact";

import { bytes, count } from "./format";
import type { Plan, WhatIf } from "./memory";

export function WhatFits({ plan }: { plan: Plan }) {
  const { kv_cache: kv, speed } = plan;
  const format = plan.quantization === "none" ? plan.dtype : `${plan.dtype}, ${plan.quantization}`;
  return (
    <div>
      <h3>What fits</h3>
      <dl class="facts">
        <Fact name="Formats" value={`${format}; KV cache in ${kv.dtype}`} />
        <Fact name="KV cache" value={`${count(kv.num_tokens)} tokens`} note={`${bytes(kv.bytes_per_token)} each`} />
        <Fact name="Blocks" value={count(kv.num_blocks)} note={`of ${count(kv.block_size)} tokens, ${bytes(kv.block_bytes)}`} />
        <Fact
          name="Requests at once"
          value={plan.max_concurrency.toFixed(2)}
          note={`of ${count(plan.max_model_len)} tokens; --max-num-seqs lets ${count(plan.max_num_seqs)} run`}
        />
        <Fact
          name="Shorter ones"
          value={plan.requests_at_once.map((at) => `${count(at.num_requests)} of ${count(at.num_tokens)}`).join(" · ")}
        />
        <Fact name="Largest context" value={plan.largest_max_model_len === null ? "–" : `${count(plan.largest_max_model_len)} tokens`} />
        {speed && (
          <Fact
            name="Expected speed"
            value={`${count(speed.decode_one_request)} tokens/s`}
            note={`for one request, ${count(speed.decode_full)} for all together, ${count(speed.prefill)} of prompts: an estimate`}
          />
        )}
      </dl>
    </div>
  );
}

function Fact({ name, value, note = "" }: { name: string; value: string; note?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {value} <small>{note}</small>
      </dd>
    </div>
  );
}

export function WhatIfTable({ plan }: { plan: Plan }) {
  if (plan.what_if.length === 0) return null;
  return (
    <>
      <h3>What other flags would change</h3>
      <div class="scroll" tabIndex={0} role="region" aria-label="What other flags would change">
        <table>
          <thead>
            <tr>
              <th scope="col">Flags</th>
              <th scope="col" class="amount">Weights</th>
              <th scope="col" class="amount">KV per token</th>
              <th scope="col" class="amount">Tokens</th>
              <th scope="col" class="amount">Context</th>
              <th scope="col" class="amount">At once</th>
            </tr>
          </thead>
          <tbody>
            <Row name="as it runs" line={present(plan)} />
            {plan.what_if.map((line) => (
              <Row key={line.flags} name={<code>{line.flags}</code>} line={line} />
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Row({ name, line }: { name: ComponentChildren; line: WhatIf }) {
  const ends = line.problem ?? (line.fits ? null : "does not fit");
  return (
    <tr>
      <th scope="row">{name}</th>
      <td class="amount">{bytes(line.weights_bytes)}</td>
      <td class="amount">{bytes(line.kv_bytes_per_token)}</td>
      <td class="amount">{ends === null ? count(line.num_tokens) : ""}</td>
      <td class="amount">{count(line.max_model_len)}</td>
      <td class={ends === null ? "amount" : "amount warn"}>{ends ?? line.max_concurrency.toFixed(2)}</td>
    </tr>
  );
}

function present(plan: Plan): WhatIf {
  return {
    flags: "",
    problem: plan.problem,
    weights_bytes: plan.memory.weights_bytes,
    kv_bytes_per_token: plan.kv_cache.bytes_per_token,
    num_tokens: plan.kv_cache.num_tokens,
    max_model_len: plan.max_model_len,
    max_concurrency: plan.max_concurrency,
    fits: plan.fits,
  };
}
