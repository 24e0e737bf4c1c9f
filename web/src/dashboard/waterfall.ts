/** Where the bars of a start lie. */
import type { StartPhase } from "../api/server_state";

export interface Bar {
  phase: StartPhase;
  /** Percent of the whole width. */
  left: number;
  width: number;
  seconds: number;
  isOpen: boolean;
  /** Of the processes in order of their first phase. */
  processIndex: number;
}

/** Seconds below which a rate would say more of the clock than of the disk. */
const LEAST_RATED_S = 0.01;

/** Bytes per second of a phase that moved some; null: it moved none, or took no time to speak of. */
export function rateOf({ num_bytes, num_bytes_done, end_s }: StartPhase, seconds: number): number | null {
  const moved = end_s === null ? num_bytes_done : num_bytes;
  return moved && seconds >= LEAST_RATED_S ? moved / seconds : null;
}

/** Bars of the phases in the order that they began; parts of phases ("load weights: model.safetensors") go with theirs.
 * `leftS`: what is expected to come still; room is kept for it. */
export function barsOf(phases: StartPhase[], nowS: number, leftS = 0): Bar[] {
  const endS = Math.max(nowS + leftS, ...phases.map((phase) => phase.end_s ?? nowS), 1e-6);
  const beginS = Math.min(0, ...phases.map((phase) => phase.start_s));
  const processes = [...new Set(phases.map((phase) => phase.process))];
  const scale = 100 / (endS - beginS);
  return [...phases]
    .sort((a, b) => a.start_s - b.start_s)
    .map((phase) => {
      const seconds = (phase.end_s ?? nowS) - phase.start_s;
      return {
        phase,
        left: (phase.start_s - beginS) * scale,
        width: Math.max(0.3, seconds * scale),
        seconds,
        isOpen: phase.end_s === null,
        processIndex: processes.indexOf(phase.process),
      };
    });
}
