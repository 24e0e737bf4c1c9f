/** One line while the server does not take requests: why, and how long still. Goes away by itself. */
import { wantKey } from "../api/key";
import { connection, startReport, type Connection, type StartReport } from "../api/server_state";

export function StateLine() {
  const told = lineOf(connection.value, startReport.value);
  return (
    <div role="status" class="state-line" hidden={told === null}>
      {told}
      {connection.value === "locked" && (
        <button class="quiet" onClick={() => wantKey("Keys are given by who runs the server.")}>
          Give a key
        </button>
      )}
    </div>
  );
}

function lineOf(state: Connection, report: StartReport | null): string | null {
  switch (state) {
    case "asking":
      return null;
    case "locked":
      return "The server wants an API key.";
    case "unreachable":
      return "The server does not answer. This page tries again by itself.";
    case "answered":
      return report === null || report.status === "ready" ? null : sentenceOf(report);
  }
}

export function sentenceOf(report: StartReport): string {
  switch (report.status) {
    case "starting":
      return `The server is starting: ${report.phase ?? "…"}${left(report.estimated_s_left)}`;
    case "recovering":
      return "The engine has ended and is being started again; requests wait and go on where they were.";
    case "draining":
      return "The server finishes what it has and takes no new requests.";
    case "dead":
      return "The engine has ended for good; the server's log says why.";
    case "ready":
      return "Ready.";
  }
}

function left(seconds: number | null): string {
  return seconds === null ? "" : `, about ${Math.max(1, Math.round(seconds))} s left`;
}
