/** The row at the top: how it goes, at one look. */
import { connection, startReport } from "../api/server_state";
import { count, percent, seconds } from "./format";
import { clockAheadS, history } from "./metrics";

export function KeyFigures() {
  const last = history.value.at(-1);
  const report = startReport.value;
  const status = connection.value === "answered" ? (report?.status ?? "…") : connection.value;
  const waits = Object.entries(last?.waitingFor ?? {}).filter(([, number]) => number > 0);
  return (
    <dl class="key-figures" aria-label="Key figures">
      <Figure name="Status" value={status} note={status === "starting" ? (report?.phase ?? "") : ""} />
      <Figure name="Up for" value={seconds(uptimeS(last?.startedAtS))} />
      <Figure name="Running" value={count(last?.running)} />
      <Figure name="Waiting" value={count(last?.waiting)} note={waits.map(([what, n]) => `${what} ${n}`).join(", ")} />
      <Figure name="Tokens/s" value={count(last?.generationRate)} note={`prompt ${count(last?.promptRate)}`} />
      <Figure name="KV cache" value={percent(last?.kvUse)} note={`hit rate ${percent(last?.hitRate)}`} />
      <Figure name="First token" value={seconds(last?.ttft[0])} note="median" />
    </dl>
  );
}

/** Whole seconds: this is written anew each second. */
function uptimeS(startedAtS: number | null | undefined): number | null {
  return startedAtS == null ? null : Math.max(0, Math.round(Date.now() / 1000 + clockAheadS.value - startedAtS));
}

function Figure({ name, value, note = "" }: { name: string; value: string; note?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd data-figure={name}>
        {value} <small>{note}</small>
      </dd>
    </div>
  );
}
