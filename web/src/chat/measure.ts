/** The line under an answer: counts, and times in words. Pure. */
import type { Answer } from "./conversation";

export interface Fact {
  label: string;
  value: string;
}

export function factsOf(answer: Answer): Fact[] {
  const { usage, times } = answer;
  const facts: (Fact | false | undefined)[] = [
    tokensOf(answer),
    counted("cached", usage?.prompt_tokens_details?.cached_tokens),
    counted("reasoning", usage?.completion_tokens_details?.reasoning_tokens),
    times.firstMs !== null && { label: "first token", value: inWords((times.firstMs - times.sentMs) / 1e3) },
    rateOf(answer),
    reasonOf(answer),
  ];
  return facts.filter((fact) => !!fact);
}

/** A stream that did not come to its end has no count of the server's. */
function tokensOf({ usage, times }: Answer): Fact | false {
  if (usage) return { label: "tokens", value: `${usage.prompt_tokens} in, ${usage.completion_tokens} out` };
  return times.numPieces > 0 && { label: "tokens", value: `about ${times.numPieces} out` };
}

function counted(label: string, count: number | undefined): Fact | undefined {
  return count ? { label, value: String(count) } : undefined;
}

/** Tokens after the first one, by the time that they took to come. */
function rateOf({ usage, times }: Answer): Fact | undefined {
  const numIntervals = (usage?.completion_tokens ?? times.numPieces) - 1;
  const seconds = ((times.lastMs ?? 0) - (times.firstMs ?? 0)) / 1e3;
  if (numIntervals < 1 || seconds <= 0) return undefined;
  const rate = numIntervals / seconds;
  return { label: "speed", value: `${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s` };
}

const REASONS: Record<string, string> = {
  length: "max tokens reached", repetition: "repeats itself", tool_calls: "calls a tool", abort: "cancelled",
};

function reasonOf(answer: Answer): Fact | undefined {
  if (answer.end === "stopped") return { label: "ended", value: "stopped by you" };
  const reason = answer.finishReason;
  if (reason === null || reason === "stop") return undefined;
  return { label: "ended", value: REASONS[reason] ?? reason };
}

/** What the server says of the request's way (`usage.timings`), whatever it has: names in `_s` are seconds. */
export function timingFacts(timings: Record<string, unknown> | undefined): Fact[] {
  return Object.entries(timings ?? {}).flatMap(([name, value]) => {
    if (typeof value === "number") return [numberFact(name, value)];
    return typeof value === "string" ? [{ label: name.replaceAll("_", " "), value }] : [];
  });
}

function numberFact(name: string, value: number): Fact {
  const unit = /_(ms|s)$/.exec(name);
  const label = name.slice(0, unit?.index).replace(/^num_/, "").replaceAll("_", " ");
  if (!unit) return { label, value: String(Math.round(value * 1000) / 1000) };
  return { label, value: inWords(unit[1] === "s" ? value : value / 1e3) };
}

export function inWords(seconds: number): string {
  if (seconds >= 100) return `${Math.round(seconds)} s`;
  if (seconds >= 1) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const ms = seconds * 1e3;
  return `${ms.toFixed(ms < 1 ? 2 : ms < 10 ? 1 : 0)} ms`;
}
