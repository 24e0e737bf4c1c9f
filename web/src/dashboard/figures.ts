/** One point of all charts, from the scrapes of the last seconds. */
import type { Scrape } from "./scrape";
import { bucketGrowth, mean, quantile, rate, share } from "./statistics";

export const STEP_PARTS = ["schedule", "execute", "sample", "update", "wire"] as const;

export interface Figures {
  /** Seconds since 1970. */
  timeS: number;
  running: number | null;
  waiting: number | null;
  waitingFor: Record<string, number>;
  /** Tokens per second. */
  promptRate: number | null;
  generationRate: number | null;
  /** 0 to 1. */
  kvUse: number | null;
  hitRate: number | null;
  /** Seconds: mean of a step, and of its parts. */
  stepParts: (number | null)[];
  /** Seconds, of the last minute: 50th, 95th and 99th percentile. */
  ttft: (number | null)[];
  itl: (number | null)[];
  /** When the server's process began, seconds since 1970 on its own clock. */
  startedAtS: number | null;
}

const QUANTILES = [0.5, 0.95, 0.99];

/** `before`: a few seconds ago, for rates; `longBefore`: about a minute ago, for percentiles. */
export function figuresOf(now: Scrape, before: Scrape, longBefore: Scrape, timeS: number): Figures {
  return {
    timeS,
    running: now.value("num_requests_running"),
    waiting: now.value("num_requests_waiting"),
    waitingFor: now.by("num_requests_waiting_for", "resource"),
    promptRate: promptRate(before, now),
    generationRate: rate("generation_tokens_total", before, now),
    kvUse: now.value("kv_cache_usage_perc"),
    hitRate: share("prefix_cache_hits_total", "prefix_cache_queries_total", longBefore, now),
    stepParts: STEP_PARTS.map((part) => mean("engine_step_part_time_seconds", before, now, { part })),
    ttft: percentiles("time_to_first_token_seconds", longBefore, now),
    itl: percentiles("inter_token_latency_seconds", longBefore, now),
    startedAtS: now.value("process_start_time_seconds"),
  };
}

/** A moment without an answer: nothing is known, and lines end there. */
export function noFigures(timeS: number): Figures {
  const nothing = { running: null, waiting: null, promptRate: null, generationRate: null, kvUse: null, hitRate: null };
  return { timeS, ...nothing, waitingFor: {}, stepParts: [], ttft: [], itl: [], startedAtS: null };
}

/** Of computed tokens where the server tells them from cached ones. */
function promptRate(before: Scrape, now: Scrape): number | null {
  const computed = rate("prompt_tokens_by_source_total", before, now, { source: "local_compute" });
  return computed ?? rate("prompt_tokens_total", before, now);
}

function percentiles(name: string, before: Scrape, now: Scrape): (number | null)[] {
  const grown = bucketGrowth(before.buckets(name), now.buckets(name));
  return QUANTILES.map((q) => quantile(q, grown));
}
