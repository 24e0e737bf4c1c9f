/** What the server says of itself, asked for once in a while; all parts of the page read it here. */
import { computed, signal } from "@preact/signals";

import { ApiError, askJson } from "./client";
import { apiKey } from "./key";

export interface StartPhase {
  name: string;
  process: string;
  /** Seconds since the exec of the server. */
  start_s: number;
  /** null: in progress. */
  end_s: number | null;
  num_bytes: number | null;
  num_bytes_done: number | null;
}

export interface StartReport {
  status: "starting" | "ready" | "recovering" | "draining" | "dead";
  phase: string | null;
  elapsed_s: number;
  estimated_s_left: number | null;
  phases: StartPhase[];
  /** Dead engines that were replaced, the last ones. */
  recoveries: Recovery[];
}

export interface Recovery {
  reason: string;
  start_s: number;
  end_s: number | null;
  phases: StartPhase[];
}

export type Connection = "asking" | "answered" | "unreachable" | "locked";

export const connection = signal<Connection>("asking");
/** The last answer of GET /startup; null before the first. */
export const startReport = signal<StartReport | null>(null);
/** Names that requests may ask for, the base model first. */
export const modelNames = signal<string[]>([]);
/** Whether a request would be taken. */
export const isReady = computed(() => connection.value === "answered" && startReport.value?.status === "ready");

const READY_INTERVAL_MS = 1000;
const WAITING_INTERVAL_MS = 500;

/** Ask now and from then on; less often while all is well. */
export function watchServer(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asking = false;
  async function again(): Promise<void> {
    if (asking) return;
    asking = true;
    clearTimeout(timer);
    await askOnce();
    asking = false;
    timer = setTimeout(again, isReady.value ? READY_INTERVAL_MS : WAITING_INTERVAL_MS);
  }
  apiKey.subscribe(() => void again());
  document.addEventListener("visibilitychange", () => document.hidden || void again());
}

async function askOnce(): Promise<void> {
  try {
    startReport.value = await askJson<StartReport>("/startup", { isPoll: true });
    connection.value = "answered";
    if (isReady.value && modelNames.value.length === 0) await askModels();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    connection.value = error.status === 401 || error.status === 403 ? "locked" : "unreachable";
    if (connection.value === "unreachable") modelNames.value = [];
  }
}

async function askModels(): Promise<void> {
  const list = await askJson<{ data: { id: string }[] }>("/v1/models");
  modelNames.value = list.data.map((model) => model.id);
}
