/** The server at work: key figures, requests, charts, memory and how it started. */
import { useEffect } from "preact/hooks";

import "../style/dashboard.css";
import { Chart, type Line } from "./chart";
import { STEP_PARTS } from "./figures";
import { count, percent, seconds } from "./format";
import { KeyFigures } from "./key_figures";
import { MemoryPanel } from "./memory_panel";
import { metricsProblem, watchMetrics } from "./metrics";
import { RequestsPanel } from "./requests_panel";
import { StartupPanel } from "./startup_panel";

const REQUESTS: Line[] = [
  { name: "running", of: (p) => p.running },
  { name: "waiting", of: (p) => p.waiting },
];
const TOKENS: Line[] = [
  { name: "generated", of: (p) => p.generationRate },
  { name: "prompt", of: (p) => p.promptRate },
];
const CACHE: Line[] = [
  { name: "KV cache in use", of: (p) => p.kvUse },
  { name: "prefix hit rate", of: (p) => p.hitRate },
];
const STEP: Line[] = [
  { name: "whole step", of: (p) => p.stepTime },
  ...["execute", "sample", "wire"].map((part) => ({
    name: part,
    of: (p: Parameters<Line["of"]>[0]) => p.stepParts[STEP_PARTS.indexOf(part as (typeof STEP_PARTS)[number])] ?? null,
  })),
];
const TTFT: Line[] = ["p50", "p95", "p99"].map((name, i) => ({ name, of: (p) => p.ttft[i] ?? null }));
const ITL: Line[] = ["p50", "p95", "p99"].map((name, i) => ({ name, of: (p) => p.itl[i] ?? null }));

export function Dashboard() {
  useEffect(watchMetrics, []);
  return (
    <main class="dashboard">
      <h1 class="visually-hidden">The server at work</h1>
      <KeyFigures />
      {metricsProblem.value && <p class="hint">{metricsProblem.value}</p>}
      <div class="cards">
        <Chart title="Requests at a time" lines={REQUESTS} format={count} least={4} />
        <Chart title="Tokens per second" lines={TOKENS} format={count} least={10} />
        <Chart title="Cache" lines={CACHE} format={percent} least={1} />
        <Chart title="Time of a step" lines={STEP} format={seconds} />
        <Chart title="Time to first token" lines={TTFT} format={seconds} />
        <Chart title="Time between tokens" lines={ITL} format={seconds} />
        <RequestsPanel />
        <MemoryPanel />
        <StartupPanel />
      </div>
    </main>
  );
}
