/** How the server started, phase by phase; and how dead engines were replaced. */
import { startReport, type Recovery, type StartPhase } from "../api/server_state";
import { bytes, seconds } from "./format";
import { barsOf } from "./waterfall";

export function StartupPanel() {
  const report = startReport.value;
  if (report === null) return null;
  const end = Math.max(0, ...report.phases.map((phase) => phase.end_s ?? 0));
  const now = report.status === "starting" ? report.elapsed_s : end;
  const left = report.estimated_s_left;
  return (
    <section class="card wide" aria-label="Start-up">
      <h2>
        Start-up <small>{report.status === "starting" ? `since ${seconds(now)}` : seconds(now)}</small>
        {left !== null && <small class="warn"> about {seconds(left)} left</small>}
      </h2>
      <Waterfall phases={report.phases} nowS={now} />
      {report.recoveries.map((recovery) => (
        <RecoveryDetails recovery={recovery} elapsedS={report.elapsed_s} />
      ))}
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

function Waterfall({ phases, nowS }: { phases: StartPhase[]; nowS: number }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Phases">
      <table class="waterfall">
        <thead>
          <tr>
            <th scope="col">Phase</th>
            <th scope="col" class="roomy">Process</th>
            <th scope="col" class="amount">
              Time
            </th>
            <th scope="col" class="amount roomy">
              Bytes
            </th>
            <th scope="col" class="timeline">
              <span class="visually-hidden">When</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {barsOf(phases, nowS).map(({ phase, left, width, seconds: took, isOpen, processIndex }) => (
            <tr data-phase={phase.name} class={phase.name.includes(": ") ? "part" : ""}>
              <th scope="row">{phase.name}</th>
              <td class="roomy">{phase.process}</td>
              <td class="amount">{isOpen ? `${seconds(took)} …` : seconds(took)}</td>
              <td class="amount roomy">{phase.num_bytes ? bytes(isOpen ? phase.num_bytes_done : phase.num_bytes) : ""}</td>
              <td class="timeline">
                <svg class={`phase-bar series-${(processIndex % 4) + 1} ${isOpen ? "open" : ""}`} width="100%" height="12" aria-hidden="true">
                  <rect x={`${left}%`} width={`${width}%`} height="12" rx="2" />
                </svg>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
