/** The open requests: what each does, why it waits, and a button to end it. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { askJson } from "../api/client";
import { count, seconds } from "./format";
import { NOTHING_YET, poll, problemOf, type Answer } from "./poll";

interface LiveRequest {
  request_id: string;
  index: number;
  state: "waiting" | "prefill" | "decode" | "paused";
  waiting_for: string | null;
  position: number | null;
  age_s: number;
  num_prompt_tokens: number;
  num_cached_tokens: number;
  num_output_tokens: number;
  num_blocks: number | null;
  num_preemptions: number;
  priority: number;
  lora: string | null;
  caller: string | null;
}

interface LiveReport {
  engine: "answered" | "busy" | "recovering" | "dead";
  requests: LiveRequest[];
}

const INTERVAL_MS = 1000;
const MOST_SHOWN = 200;

const report = signal<Answer<LiveReport>>(NOTHING_YET);
/** Ids for which the button was pressed. */
const ending = signal<ReadonlySet<string>>(new Set());

async function askOnce(abort: AbortSignal): Promise<void> {
  try {
    const data = await askJson<LiveReport>("/debug/requests", { signal: abort, isPoll: true });
    report.value = { data, problem: null };
    const open = new Set(data.requests.map((request) => request.request_id));
    ending.value = new Set([...ending.value].filter((id) => open.has(id)));
  } catch (error) {
    if (error instanceof DOMException) throw error;
    report.value = { data: null, problem: problemOf(error, "admin") };
  }
}

async function cancel(requestId: string): Promise<void> {
  ending.value = new Set([...ending.value, requestId]);
  try {
    await askJson("/v1/abort", { method: "POST", body: { request_ids: [requestId] } });
  } catch (error) {
    report.value = { ...report.value, problem: problemOf(error, "infer") };
    ending.value = new Set([...ending.value].filter((id) => id !== requestId));
  }
}

export function RequestsPanel() {
  useEffect(() => poll(askOnce, INTERVAL_MS), []);
  const { data, problem } = report.value;
  return (
    <section class="card wide" aria-label="Requests">
      <h2>
        Requests <small data-num-requests={data?.requests.length ?? ""}>{data && `${data.requests.length} open`}</small>
        {data?.engine === "busy" && <small class="warn"> the engine is busy with a step</small>}
      </h2>
      {problem && <p class="hint">{problem}</p>}
      {data?.requests.length === 0 && <p class="hint">Nobody asks for anything now.</p>}
      {data !== null && data.requests.length > 0 && <Table requests={data.requests} />}
    </section>
  );
}

function Table({ requests }: { requests: LiveRequest[] }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Open requests">
      <table>
        <thead>
          <tr>
            <th scope="col">Request</th>
            <th scope="col">State</th>
            <th scope="col" class="amount">Age</th>
            <th scope="col" class="amount">Prompt (cached)</th>
            <th scope="col" class="amount">Answer</th>
            <th scope="col" class="amount">Blocks</th>
            <th scope="col" class="amount">Preempted</th>
            <th scope="col" class="amount">Priority</th>
            <th scope="col">Key</th>
            <th scope="col">
              <span class="visually-hidden">End it</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {requests.slice(0, MOST_SHOWN).map((request) => (
            <Row key={`${request.request_id}/${request.index}`} request={request} />
          ))}
        </tbody>
      </table>
      {requests.length > MOST_SHOWN && <p class="hint">and {requests.length - MOST_SHOWN} more</p>}
    </div>
  );
}

function Row({ request }: { request: LiveRequest }) {
  const isEnding = ending.value.has(request.request_id);
  return (
    <tr data-request={request.request_id}>
      <th scope="row">
        <code>{request.request_id}</code>
        {request.index > 0 && <small> answer {request.index + 1}</small>}
        {request.lora && <small> {request.lora}</small>}
      </th>
      <td>
        <span class={`state is-${request.state}`}>{request.state}</span> {reasonOf(request)}
      </td>
      <td class="amount">{seconds(request.age_s)}</td>
      <td class="amount">
        {count(request.num_prompt_tokens)} ({count(request.num_cached_tokens)})
      </td>
      <td class="amount">{count(request.num_output_tokens)}</td>
      <td class="amount">{count(request.num_blocks)}</td>
      <td class="amount">{request.num_preemptions || ""}</td>
      <td class="amount">{request.priority || ""}</td>
      <td>{request.caller === "anonymous" ? "" : request.caller}</td>
      <td>
        <button
          class="bad small"
          disabled={isEnding}
          aria-label={`Cancel ${request.request_id}`}
          onClick={() => void cancel(request.request_id)}
        >
          {isEnding ? "ending" : "Cancel"}
        </button>
      </td>
    </tr>
  );
}

function reasonOf(request: LiveRequest): string {
  const reason = request.waiting_for ? `for ${request.waiting_for}` : "";
  if (request.position === null) return reason;
  return [reason, request.position === 0 ? "next" : `${request.position} before it`].filter(Boolean).join(", ");
}
