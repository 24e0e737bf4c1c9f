/** The figures of the last minutes, asked of GET /metrics each second while the view is shown. */
import { signal } from "@preact/signals";

import { askText } from "../api/client";
import { figuresOf, type Figures } from "./figures";
import { poll, problemOf } from "./poll";
import { Scrape } from "./scrape";

const INTERVAL_MS = 1000;
const KEPT_S = 300;
const RATE_WINDOW_S = 3;
const QUANTILE_WINDOW_S = 60;

/** Oldest first, of five minutes. */
export const history = signal<Figures[]>([]);
/** Why there are no new ones; null: there are. */
export const metricsProblem = signal<string | null>(null);

let scrapes: Scrape[] = [];

export function watchMetrics(): () => void {
  return poll(askOnce, INTERVAL_MS);
}

async function askOnce(signal: AbortSignal): Promise<void> {
  try {
    const now = new Scrape(await askText("/metrics", { signal, isPoll: true }), performance.now() / 1000);
    metricsProblem.value = null;
    scrapes = [...scrapes.filter((scrape) => scrape.atS > now.atS - KEPT_S), now];
    const point = figuresOf(now, before(now, RATE_WINDOW_S), before(now, QUANTILE_WINDOW_S), Date.now() / 1000);
    history.value = [...history.value.filter((old) => old.timeS > point.timeS - KEPT_S), point];
  } catch (error) {
    if (error instanceof DOMException) throw error;
    metricsProblem.value = problemOf(error, "metrics");
  }
}

/** The newest scrape that is at least so old, or the oldest that there is. */
function before(now: Scrape, ageS: number): Scrape {
  return scrapes.findLast((scrape) => scrape.atS <= now.atS - ageS) ?? scrapes[0] ?? now;
}
