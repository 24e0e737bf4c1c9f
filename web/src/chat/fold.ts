/** From the chunks of a streamed chat completion to an answer. Knows the wire's shape, and nothing of the page. */
import type { Answer, TokenChance, Usage } from "./conversation";

interface TokenOnWire {
  token: string;
  logprob: number;
  top_logprobs?: TokenOnWire[];
}

interface Delta {
  content?: string | null;
  reasoning?: string | null;
  reasoning_content?: string | null;
  tool_calls?: { index?: number; function?: { name?: string; arguments?: string } }[] | null;
}

export interface Chunk {
  model?: string;
  choices?: { delta?: Delta; logprobs?: { content?: TokenOnWire[] | null } | null; finish_reason?: string | null }[];
  usage?: Usage | null;
  error?: { message?: string } | string;
}

/** Adds what `chunk` says to `answer`, in place: it comes hundreds of times a second. */
export function fold(answer: Answer, chunk: Chunk, nowMs: number): void {
  if (chunk.error !== undefined) answer.error = messageOf(chunk.error);
  if (chunk.model) answer.model = chunk.model;
  if (chunk.usage) answer.usage = chunk.usage;
  const choice = chunk.choices?.[0];
  if (!choice) return;
  const delta = choice.delta ?? {};
  const reasoning = delta.reasoning ?? delta.reasoning_content ?? "";
  const tokens = choice.logprobs?.content ?? [];
  answer.text += delta.content ?? "";
  answer.reasoning += reasoning;
  for (const call of delta.tool_calls ?? []) addCall(answer, call);
  for (const token of tokens) answer.tokens.push(chanceOf(token));
  if (choice.finish_reason) answer.finishReason = choice.finish_reason;
  // The chunk that only opens the answer is no token yet.
  if (delta.content || reasoning || delta.tool_calls?.length || tokens.length) {
    answer.times.firstMs ??= nowMs;
    answer.times.lastMs = nowMs;
    answer.times.numPieces += 1;
  }
}

function addCall(answer: Answer, { index = 0, function: told }: NonNullable<Delta["tool_calls"]>[number]): void {
  const call = (answer.toolCalls[index] ??= { name: "", arguments: "" });
  call.name += told?.name ?? "";
  call.arguments += told?.arguments ?? "";
}

function chanceOf({ token, logprob, top_logprobs = [] }: TokenOnWire): TokenChance {
  return { text: token, logprob: rounded(logprob), top: top_logprobs.map((t) => [t.token, rounded(t.logprob)]) };
}

/** Kept in the browser with thousands of others. */
function rounded(logprob: number): number {
  return Math.round(logprob * 1e4) / 1e4;
}

function messageOf(error: { message?: string } | string): string {
  return (typeof error === "string" ? error : error.message) || "The server ended the answer with an error.";
}

/** The answer of a stream that has ended; `isDone`: with the mark of its end. */
export function settle(answer: Answer, isDone: boolean): void {
  if (!isDone && answer.error === null) answer.error = "The connection ended before the answer did.";
  answer.end = answer.error === null ? "finished" : "failed";
}
