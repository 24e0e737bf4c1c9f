/** Where memory goes: the plan as a bar, what would change it, and the ledger of what is held now. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { askJson } from "../api/client";
import { bytes, count } from "./format";
import { piecesOf, type Plan } from "./memory";
import { NOTHING_YET, poll, problemOf, type Answer } from "./poll";

const INTERVAL_MS = 5000;

const plan = signal<Answer<Plan>>(NOTHING_YET);

async function askOnce(abort: AbortSignal): Promise<void> {
  try {
    plan.value = { data: await askJson<Plan>("/plan", { signal: abort, isPoll: true }), problem: null };
  } catch (error) {
    if (error instanceof DOMException) throw error;
    plan.value = { data: null, problem: problemOf(error, "metrics") };
  }
}

export function MemoryPanel() {
  useEffect(() => poll(askOnce, INTERVAL_MS), []);
  const { data, problem } = plan.value;
  return (
    <section class="card wide" aria-label="Memory">
      <h2>
        Memory <small>{data && `${bytes(data.device.total_bytes)} of ${data.device.kind === "cpu" ? "main memory" : "the GPU"}`}</small>
      </h2>
      {problem && <p class="hint">{problem}</p>}
      {data && <PlanPicture plan={data} />}
      {data && <WhatIfTable plan={data} />}
      {data && <Ledger plan={data} />}
    </section>
  );
}

function PlanPicture({ plan }: { plan: Plan }) {
  const pieces = piecesOf(plan);
  const total = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
  let at = 0;
  return (
    <>
      <svg class="memory-bar" width="100%" height="22" aria-hidden="true">
        {pieces.map((piece, i) => {
          const [x, width] = [(100 * at) / total, (100 * piece.bytes) / total];
          at += piece.bytes;
          return <rect class={pieceClass(i, pieces.length)} x={`${x}%`} width={`${width}%`} height="22" />;
        })}
      </svg>
      <ul class="legend">
        {pieces.map((piece, i) => (
          <li>
            <span class={`swatch ${pieceClass(i, pieces.length)}`} />
            {piece.name} <b>{bytes(piece.bytes)}</b>
          </li>
        ))}
      </ul>
      <p>
        {plan.dtype}
        {plan.quantization !== "none" && `, ${plan.quantization}`}, KV cache in {plan.kv_cache.dtype}:{" "}
        <b>{count(plan.kv_cache.num_tokens)}</b> tokens ({bytes(plan.kv_cache.bytes_per_token)} each), which is{" "}
        <b>{plan.max_concurrency.toFixed(2)}</b> requests of {count(plan.max_model_len)} tokens at once, and{" "}
        {count(plan.max_num_seqs)} at most.
        {plan.speed && ` Estimated: ${count(plan.speed.decode_one_request)} tokens/s for one request, ${count(plan.speed.prefill)} for prompts.`}
      </p>
    </>
  );
}

function pieceClass(index: number, count: number): string {
  return index === count - 1 ? "series-rest" : `series-${index + 1}`;
}

function WhatIfTable({ plan }: { plan: Plan }) {
  return (
    <details>
      <summary>What other flags would change</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label="What other flags would change">
        <table>
          <thead>
            <tr>
              <th scope="col">Flags</th>
              <th scope="col" class="amount">Weights</th>
              <th scope="col" class="amount">Tokens</th>
              <th scope="col" class="amount">At once</th>
            </tr>
          </thead>
          <tbody>
            {plan.what_if.map((line) => (
              <tr>
                <th scope="row">
                  <code>{line.flags}</code>
                </th>
                <td class="amount">{bytes(line.weights_bytes)}</td>
                <td class="amount">{line.problem ? "" : count(line.num_tokens)}</td>
                <td class="amount">{line.problem ?? (line.fits ? line.max_concurrency.toFixed(2) : "does not fit")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function Ledger({ plan }: { plan: Plan }) {
  return (
    <>
      <h3>Held now</h3>
      <dl class="ledger">
        {plan.ledger.map(({ part, bytes: held, limit_bytes: limit }) => (
          <div>
            <dt>{part.replaceAll("_", " ")}</dt>
            <dd>
              {bytes(held)}
              {limit !== null && ` of ${bytes(limit)}`}
              {limit !== null && limit > 0 && <meter min={0} max={limit} value={held} aria-label={`${part} held`} />}
            </dd>
          </div>
        ))}
      </dl>
    </>
  );
}
