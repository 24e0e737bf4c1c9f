/** Where memory goes: the plan as a bar, what fits into it, and what is held now. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { askJson } from "../api/client";
import { bytes, percent } from "./format";
import { piecesOf, type Piece, type Plan } from "./memory";
import { WhatFits, WhatIfTable } from "./plan_tables";
import { NOTHING_YET, poll, problemOf, type Answer } from "./poll";

const INTERVAL_MS = 5000;
/** Of the bar's width: less has no room for its size. */
const LEAST_LABELLED = 0.12;

const plan = signal<Answer<Plan>>(NOTHING_YET);

async function askOnce(abort: AbortSignal): Promise<void> {
  try {
    plan.value = { data: await askJson<Plan>("/plan", { signal: abort, isPoll: true }), problem: null };
  } catch (error) {
    if (error instanceof DOMException) throw error;
    plan.value = { data: null, problem: problemOf(error, "metrics") };
  }
}

export function MemoryPanel() {
  useEffect(() => poll(askOnce, INTERVAL_MS), []);
  const { data, problem } = plan.value;
  return (
    <section class="card wide" aria-label="Memory">
      <h2>
        Memory <small>{data && `${bytes(data.device.total_bytes)} of ${data.device.kind === "cpu" ? "main memory" : "the GPU"}`}</small>
      </h2>
      {problem && <p class="hint">{problem}</p>}
      {data?.problem && <p class="warn">{data.problem}</p>}
      {data && <PlanPicture plan={data} />}
      {data && (
        <div class="memory-columns">
          <WhatFits plan={data} />
          <Ledger plan={data} />
        </div>
      )}
      {data && <WhatIfTable plan={data} />}
    </section>
  );
}

function PlanPicture({ plan }: { plan: Plan }) {
  const pieces = piecesOf(plan);
  const total = pieces.reduce((sum, piece) => sum + piece.bytes, 0) || 1;
  return (
    <>
      <div class="memory-bar" aria-hidden="true">
        {pieces.map((piece) => (
          <PieceBar key={piece.name} piece={piece} share={piece.bytes / total} held={heldOf(piece, plan)} />
        ))}
      </div>
      <ul class="legend">
        {pieces.map((piece) => (
          <li key={piece.name}>
            <span class={`swatch series-${piece.kind}`} />
            {piece.name} <b>{bytes(piece.bytes)}</b> <small>{percent(piece.bytes / total)}</small>
          </li>
        ))}
      </ul>
    </>
  );
}

/** What of the KV cache holds something now is solid, the rest of it is pale. */
function PieceBar({ piece, share, held }: { piece: Piece; share: number; held: number | null }) {
  return (
    <div class={`piece series-${piece.kind} ${held === null ? "" : "partly"}`} style={{ flexGrow: share }}>
      {held !== null && <span class="held" style={{ width: `${100 * held}%` }} />}
      {share >= LEAST_LABELLED && <span class="label">{piece.name}</span>}
    </div>
  );
}

function heldOf(piece: Piece, { ledger }: Plan): number | null {
  if (piece.kind !== 2) return null;
  const line = ledger.find(({ part }) => part === "kv_cache");
  return line ? Math.min(1, line.bytes / Math.max(1, line.limit_bytes ?? piece.bytes)) : null;
}

function Ledger({ plan }: { plan: Plan }) {
  return (
    <div>
      <h3>Held now</h3>
      <dl class="ledger">
        {plan.ledger.map(({ part, bytes: held, limit_bytes: limit }) => (
          <div key={part}>
            <dt>{part === "kv_cache" ? "KV cache" : part.replaceAll("_", " ")}</dt>
            <dd>
              <span>
                {bytes(held)}
                {limit !== null && <span class="limit"> of {bytes(limit)}</span>}
              </span>
              <span class="fill" aria-hidden="true">
                <span style={{ width: `${limit ? Math.min(100, (100 * held) / limit) : 0}%` }} />
              </span>
            </dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
