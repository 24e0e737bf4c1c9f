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
/** What became of the last button that was pressed. */
const outcome = signal<{ text: string; isBad: boolean } | null>(null);

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
  outcome.value = { text: `Ending ${requestId} …`, isBad: false };
  try {
    const body = { request_ids: [requestId] };
    const { aborted } = await askJson<{ aborted: number }>("/v1/abort", { method: "POST", body });
    outcome.value = { text: aborted ? `${requestId} was cancelled.` : `${requestId} had ended already.`, isBad: false };
  } catch (error) {
    outcome.value = { text: `${requestId} was not cancelled. ${problemOf(error, "infer")}`, isBad: true };
    ending.value = new Set([...ending.value].filter((id) => id !== requestId));
  }
}

/** A panel that is shown again does not tell of what was long ago. */
function watchRequests(): () => void {
  outcome.value = null;
  return poll(askOnce, INTERVAL_MS);
}

export function RequestsPanel() {
  useEffect(watchRequests, []);
  const { data, problem } = report.value;
  return (
    <section class="card wide" aria-label="Requests">
      <h2>
        Requests <small data-num-requests={data?.requests.length ?? ""}>{data && `${data.requests.length} open`}</small>
        {data?.engine === "busy" && <small class="warn"> the engine is busy with a step</small>}
      </h2>
      {problem && <p class="hint">{problem}</p>}
      <p class={outcome.value?.isBad ? "outcome error" : "outcome hint"} aria-live="polite">
        {outcome.value?.text}
      </p>
      {data?.requests.length === 0 && <p class="hint">Nobody asks for anything now.</p>}
      {data !== null && data.requests.length > 0 && <Table requests={data.requests} />}
    </section>
  );
}

/** Columns that are mostly empty are there while a request has something to say in them. */
interface Columns {
  preempted: boolean;
  priority: boolean;
  adapter: boolean;
  key: boolean;
}

function columnsOf(requests: LiveRequest[]): Columns {
  return {
    preempted: requests.some((request) => request.num_preemptions > 0),
    priority: requests.some((request) => request.priority !== 0),
    adapter: requests.some((request) => request.lora !== null),
    key: requests.some((request) => callerOf(request) !== ""),
  };
}

function callerOf({ caller }: LiveRequest): string {
  return caller === null || caller === undefined || caller === "anonymous" ? "" : caller;
}

function Table({ requests }: { requests: LiveRequest[] }) {
  const columns = columnsOf(requests);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Open requests">
      <table class="requests">
        <thead>
          <tr>
            <th scope="col">Request</th>
            <th scope="col">State</th>
            <th scope="col" class="amount">Age</th>
            <th scope="col" class="amount">Prompt</th>
            <th scope="col" class="amount">Cached</th>
            <th scope="col" class="amount">Answer</th>
            <th scope="col" class="amount">Blocks</th>
            {columns.preempted && <th scope="col" class="amount">Preempted</th>}
            {columns.priority && <th scope="col" class="amount">Priority</th>}
            {columns.adapter && <th scope="col">Adapter</th>}
            {columns.key && <th scope="col">Key</th>}
            <th scope="col" class="action">
              <span class="visually-hidden">End it</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {requests.slice(0, MOST_SHOWN).map((request) => (
            <Row key={`${request.request_id}/${request.index}`} request={request} columns={columns} />
          ))}
        </tbody>
      </table>
      {requests.length > MOST_SHOWN && <p class="hint">and {requests.length - MOST_SHOWN} more</p>}
    </div>
  );
}

function Row({ request, columns }: { request: LiveRequest; columns: Columns }) {
  return (
    <tr data-request={request.request_id}>
      <th scope="row">
        <code>{request.request_id}</code>
        {request.index > 0 && <small> answer {request.index + 1}</small>}
      </th>
      <td>
        <span class={`state is-${request.state}`}>{request.state}</span> {reasonOf(request)}
      </td>
      <td class="amount">{seconds(request.age_s)}</td>
      <td class="amount">{count(request.num_prompt_tokens)}</td>
      <td class="amount">{count(request.num_cached_tokens)}</td>
      <td class="amount">{count(request.num_output_tokens)}</td>
      <td class="amount">{count(request.num_blocks)}</td>
      {columns.preempted && <td class="amount">{request.num_preemptions || ""}</td>}
      {columns.priority && <td class="amount">{request.priority || ""}</td>}
      {columns.adapter && <td>{request.lora}</td>}
      {columns.key && <td>{callerOf(request)}</td>}
      <td class="action">
        <CancelButton requestId={request.request_id} />
      </td>
    </tr>
  );
}

function CancelButton({ requestId }: { requestId: string }) {
  const isEnding = ending.value.has(requestId);
  return (
    <button class="bad small" disabled={isEnding} aria-label={`Cancel ${requestId}`} onClick={() => void cancel(requestId)}>
      {isEnding ? "Ending…" : "Cancel"}
    </button>
  );
}

function reasonOf(request: LiveRequest): string {
  const reason = request.waiting_for ? `for ${request.waiting_for}` : "";
  if (request.position === null) return reason;
  return [reason, request.position === 0 ? "next" : `${request.position} before it`].filter(Boolean).join(", ");
}
