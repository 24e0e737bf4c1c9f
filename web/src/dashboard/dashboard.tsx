/** The server at work: key figures, requests, charts, memory and how it started. */
import { useEffect } from "preact/hooks";

import "../style/dashboard.css";
import { startReport } from "../api/server_state";
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
  { name: "prompt, computed", of: (p) => p.promptRate },
];
const CACHE: Line[] = [
  { name: "KV cache in use", of: (p) => p.kvUse },
  { name: "prefix hit rate", of: (p) => p.hitRate },
];
const STEP: Line[] = STEP_PARTS.map((name, i) => ({ name, of: (p) => p.stepParts[i] ?? null }));
const TTFT: Line[] = ["p50", "p95", "p99"].map((name, i) => ({ name, of: (p) => p.ttft[i] ?? null }));
const ITL: Line[] = ["p50", "p95", "p99"].map((name, i) => ({ name, of: (p) => p.itl[i] ?? null }));

export function Dashboard() {
  useEffect(watchMetrics, []);
  // While it starts there is nothing else to see.
  const isStarting = startReport.value?.status === "starting";
  return (
    <main class="dashboard">
      <h1 class="visually-hidden">The server at work</h1>
      <KeyFigures />
      {metricsProblem.value && <p class="hint">{metricsProblem.value}</p>}
      <div class="cards">
        <Chart title="Requests at a time" lines={REQUESTS} format={count} least={4} />
        <Chart title="Tokens per second" note="of the last 5 s" lines={TOKENS} format={count} least={10} />
        <Chart title="Cache" lines={CACHE} format={percent} least={1} />
        <Chart title="Time of a step" note="mean of the last 5 s" lines={STEP} format={seconds} isStacked />
        <Chart title="Time to first token" note="of the last minute" lines={TTFT} format={seconds} />
        <Chart title="Time between tokens" note="of the last minute" lines={ITL} format={seconds} />
        <RequestsPanel />
        <MemoryPanel />
        <StartupPanel isFirst={isStarting} />
      </div>
    </main>
  );
}
