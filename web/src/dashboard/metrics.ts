/** The figures of the last minutes, asked of GET /metrics each second while the view is shown. */
import { signal } from "@preact/signals";

import { ask } from "../api/client";
import { figuresOf, noFigures, type Figures } from "./figures";
import { poll, problemOf } from "./poll";
import { Scrape } from "./scrape";

const INTERVAL_MS = 1000;
const KEPT_S = 300;
/** As `kvik top` has them: rates over less would jump with every step, percentiles want more than a few requests. */
const RATE_WINDOW_S = 5;
const QUANTILE_WINDOW_S = 60;
/** A longer silence is drawn as a gap: the tab was hidden, or the view was left. */
const GAP_S = 5;

/** Oldest first, of five minutes. */
export const history = signal<Figures[]>([]);
/** Why there are no new ones; null: there are. */
export const metricsProblem = signal<string | null>(null);
/** How far the server's clock is ahead of this one, seconds. */
export const clockAheadS = signal(0);

/** Those of the last minute, and the first one that is older. */
let scrapes: Scrape[] = [];

export function watchMetrics(): () => void {
  return poll(askOnce, INTERVAL_MS);
}

async function askOnce(signal: AbortSignal): Promise<void> {
  try {
    const response = await ask("/metrics", { signal, isPoll: true });
    const now = new Scrape(await response.text(), performance.now() / 1000);
    metricsProblem.value = null;
    clockAheadS.value = aheadOf(response.headers.get("Date"));
    const first = before(now, QUANTILE_WINDOW_S);
    scrapes = [...scrapes.filter((scrape) => scrape.atS >= first.atS), now];
    keep(figuresOf(now, before(now, RATE_WINDOW_S), first, timeS()));
  } catch (error) {
    if (error instanceof DOMException) throw error;
    metricsProblem.value = problemOf(error, "metrics");
    scrapes = []; // the gap was no time of serving
    keep(noFigures(timeS()));
  }
}

function keep(point: Figures): void {
  const kept = history.value.filter((old) => old.timeS > point.timeS - KEPT_S);
  const last = kept.at(-1);
  const gap = last && point.timeS - last.timeS > GAP_S ? [noFigures(last.timeS + 1)] : [];
  history.value = [...kept, ...gap, point];
}

/** Seconds since 1970 of a clock that never goes back. */
function timeS(): number {
  return (performance.timeOrigin + performance.now()) / 1000;
}

function aheadOf(date: string | null): number {
  const told = Date.parse(date ?? "") / 1000;
  return Number.isNaN(told) ? 0 : told - Date.now() / 1000;
}

/** The newest scrape that is at least so old, or the oldest that there is. */
function before(now: Scrape, ageS: number): Scrape {
  return scrapes.findLast((scrape) => scrape.atS <= now.atS - ageS) ?? scrapes[0] ?? now;
}
