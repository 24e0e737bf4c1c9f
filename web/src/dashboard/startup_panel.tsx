/** How the server started, phase by phase; and how dead engines were replaced. */
import { connection, startReport, type Recovery, type StartPhase } from "../api/server_state";
import { bytes, seconds } from "./format";
import { barsOf, rateOf, type Bar } from "./waterfall";

export function StartupPanel({ isFirst }: { isFirst: boolean }) {
  const report = startReport.value;
  if (report === null) return <NothingYet />;
  const end = Math.max(0, ...report.phases.map((phase) => phase.end_s ?? 0));
  const now = report.status === "starting" ? report.elapsed_s : end;
  const left = report.estimated_s_left;
  return (
    <section class={isFirst ? "card wide first" : "card wide"} aria-label="Start-up">
      <h2>
        Start-up <small>{report.status === "starting" ? `since ${seconds(now)}` : seconds(now)}</small>
        {left !== null && <small class="warn"> about {seconds(left)} left</small>}
      </h2>
      <Waterfall phases={report.phases} nowS={now} leftS={report.status === "starting" ? (left ?? 0) : 0} />
      {(report.recoveries ?? []).map((recovery) => (
        <RecoveryDetails recovery={recovery} elapsedS={report.elapsed_s} />
      ))}
    </section>
  );
}

function NothingYet() {
  const isLocked = connection.value === "locked";
  return (
    <section class="card wide" aria-label="Start-up">
      <h2>Start-up</h2>
      <p class="hint">{isLocked ? "This needs an API key." : "The server has not answered yet; this comes by itself."}</p>
    </section>
  );
}

function RecoveryDetails({ recovery, elapsedS }: { recovery: Recovery; elapsedS: number }) {
  const end = recovery.end_s ?? recovery.start_s + elapsedS;
  const phases = recovery.phases.map((phase) => moved(phase, recovery.start_s));
  return (
    <details open={recovery.end_s === null}>
      <summary>
        The engine was replaced in {seconds(end - recovery.start_s)}: {recovery.reason}
      </summary>
      <Waterfall phases={phases} nowS={end - recovery.start_s} />
    </details>
  );
}

function moved(phase: StartPhase, byS: number): StartPhase {
  return { ...phase, start_s: phase.start_s - byS, end_s: phase.end_s === null ? null : phase.end_s - byS };
}

function Waterfall({ phases, nowS, leftS = 0 }: { phases: StartPhase[]; nowS: number; leftS?: number }) {
  const bars = barsOf(phases, nowS, leftS);
  return (
    <>
      <ul class="legend">
        {[...new Set(phases.map((phase) => phase.process))].map((process, i) => (
          <li key={process}>
            <span class={`swatch ${colourClass(i)}`} />
            {process}
          </li>
        ))}
      </ul>
      <div class="scroll" tabIndex={0} role="region" aria-label="Phases">
        <table class="waterfall">
          <Heading />
          <tbody>
            {bars.map((bar) => (
              <PhaseRow key={`${bar.phase.process}/${bar.phase.name}/${bar.phase.start_s}`} bar={bar} />
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Heading() {
  return (
    <thead>
      <tr>
        <th scope="col">Phase</th>
        <th scope="col" class="roomy">Process</th>
        <th scope="col" class="amount">Time</th>
        <th scope="col" class="amount roomy">Size</th>
        <th scope="col" class="amount roomy">Rate</th>
        <th scope="col" class="timeline">
          <span class="visually-hidden">When</span>
        </th>
      </tr>
    </thead>
  );
}

function PhaseRow({ bar }: { bar: Bar }) {
  const { phase, left, width, seconds: took, isOpen, processIndex } = bar;
  const [whole, part] = phase.name.split(/: (.*)/s);
  const rate = rateOf(phase, took);
  return (
    <tr data-phase={phase.name} class={part ? "part" : ""}>
      <th scope="row">
        {part ? <span class="visually-hidden">{whole}: </span> : null}
        {part ?? whole}
        <small class="on-phones">{phase.process}</small>
      </th>
      <td class="roomy">{phase.process}</td>
      <td class="amount">{isOpen ? `${seconds(took)} …` : seconds(took)}</td>
      <td class="amount roomy">{sizeOf(phase)}</td>
      <td class="amount roomy">{rate === null ? "" : `${bytes(rate)}/s`}</td>
      <td class="timeline">
        <span class="visually-hidden">from {seconds(Math.max(0, phase.start_s))}</span>
        <svg class={`phase-bar ${colourClass(processIndex)} ${isOpen ? "open" : ""}`} width="100%" height="12" aria-hidden="true">
          <rect x={`${left}%`} width={`${width}%`} height="12" rx="2" />
        </svg>
      </td>
    </tr>
  );
}

function sizeOf({ num_bytes, num_bytes_done, end_s }: StartPhase): string {
  if (!num_bytes) return "";
  const isPartDone = end_s === null && num_bytes_done !== null;
  return isPartDone ? `${bytes(num_bytes_done)} of ${bytes(num_bytes)}` : bytes(num_bytes);
}

function colourClass(processIndex: number): string {
  return `series-${(processIndex % 4) + 1}`;
}
