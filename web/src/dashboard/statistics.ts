/** Rates of counters and quantiles of histograms, between two scrapes. */
import type { Buckets, Scrape } from "./scrape";

/** How much a counter has grown; one that is smaller than before began anew, with another server. */
export function growth(before: number, now: number): number {
  return now >= before ? now - before : now;
}

/** Per second; null where one of the scrapes has no such counter. */
export function rate(name: string, before: Scrape, now: Scrape, labels: Record<string, string> = {}): number | null {
  const [first, last] = [before.value(name, labels), now.value(name, labels)];
  const seconds = now.atS - before.atS;
  return first === null || last === null || seconds <= 0 ? null : growth(first, last) / seconds;
}

/** What share of the growth of one counter another one has; null where nothing has grown. */
export function share(part: string, whole: string, before: Scrape, now: Scrape): number | null {
  const parts = growthOf(part, before, now);
  const all = growthOf(whole, before, now);
  return parts === null || !all ? null : parts / all;
}

function growthOf(name: string, before: Scrape, now: Scrape): number | null {
  const [first, last] = [before.value(name), now.value(name)];
  return first === null || last === null ? null : growth(first, last);
}

/** The mean of what a histogram took in meanwhile; null: nothing came. */
export function mean(name: string, before: Scrape, now: Scrape, labels: Record<string, string> = {}): number | null {
  const [sum, count] = ["_sum", "_count"].map((end) => {
    const [first, last] = [before.value(name + end, labels), now.value(name + end, labels)];
    return first === null || last === null ? 0 : growth(first, last);
  }) as [number, number];
  return count ? sum / count : null;
}

/** What a histogram took in between two states of it. */
export function bucketGrowth(before: Buckets, now: Buckets): Buckets {
  const known = new Map(before);
  const began = now.some(([bound, count]) => count < (known.get(bound) ?? 0));
  return now.map(([bound, count]) => [bound, began ? count : count - (known.get(bound) ?? 0)]);
}

/**
 * The value below which a share `q` of the observations lies, linear inside a bucket as PromQL's histogram_quantile has
 * it (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile). null: there are none. What
 * lies beyond the last finite bound counts as that bound.
 */
export function quantile(q: number, buckets: Buckets): number | null {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  const rank = q * total;
  let [lower, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= rank && count > below) {
      if (bound === Infinity) return lower;
      return lower + ((bound - lower) * (rank - below)) / (count - below);
    }
    if (bound !== Infinity) lower = bound;
    below = count;
  }
  return lower;
}
