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
  stepTime: number | null;
  stepParts: (number | null)[];
  /** Seconds, of the last minute: 50th, 95th and 99th percentile. */
  ttft: (number | null)[];
  itl: (number | null)[];
}

const QUANTILES = [0.5, 0.95, 0.99];

/** `before`: a few seconds ago, for rates; `longBefore`: about a minute ago, for percentiles. */
export function figuresOf(now: Scrape, before: Scrape, longBefore: Scrape, timeS: number): Figures {
  return {
    timeS,
    running: now.value("num_requests_running"),
    waiting: now.value("num_requests_waiting"),
    waitingFor: now.by("num_requests_waiting_for", "resource"),
    promptRate: rate("prompt_tokens_total", before, now),
    generationRate: rate("generation_tokens_total", before, now),
    kvUse: now.value("kv_cache_usage_perc"),
    hitRate: share("prefix_cache_hits_total", "prefix_cache_queries_total", longBefore, now),
    stepTime: mean("engine_step_time_seconds", before, now),
    stepParts: STEP_PARTS.map((part) => mean("engine_step_part_time_seconds", before, now, { part })),
    ttft: percentiles("time_to_first_token_seconds", longBefore, now),
    itl: percentiles("inter_token_latency_seconds", longBefore, now),
  };
}

function percentiles(name: string, before: Scrape, now: Scrape): (number | null)[] {
  const grown = bucketGrowth(before.buckets(name), now.buckets(name));
  return QUANTILES.map((q) => quantile(q, grown));
}
