/** Answers that are being written: at most one per conversation, each a request that can be stopped. */
import { batch, signal, type ReadonlySignal } from "@preact/signals";

import { ApiError, ask } from "../api/client";
import { modelNames } from "../api/server_state";
import { eventsOf } from "../api/sse";
import { change, saveNow } from "./book";
import { newAnswer, withAnswer, type Answer, type Conversation } from "./conversation";
import { fold, settle, type Chunk } from "./fold";
import { chatBody, measured } from "./request";

export interface Run {
  answerId: string;
  /** The answer so far; a new record at most once per frame. */
  shown: ReadonlySignal<Answer>;
  stop(): void;
}

/** By conversation. */
export const runs = signal<ReadonlyMap<string, Run>>(new Map());
/** The text of the answer that ended last, to be read out. */
export const announced = signal("");

/** Answers that have not joined their conversation yet, by their ids. */
const unfinished = new Set<string>();

/** Have the last question of `conversation` answered; the answer joins it when it has ended, however it did. */
export async function answer(conversation: Conversation): Promise<void> {
  const { id, settings } = conversation;
  const writing = newAnswer(performance.now(), settings.useSchema);
  const controller = new AbortController();
  const shown = signal({ ...writing });
  const show = oncePerFrame(() => (shown.value = { ...writing }));
  const run: Run = { answerId: writing.id, shown, stop: () => controller.abort() };
  unfinished.add(writing.id);
  runs.value = new Map(runs.value).set(id, run);
  announced.value = "";
  await write(writing, measured(chatBody(conversation, modelNames.value)), controller.signal, show);
  batch(() => {
    runs.value = new Map([...runs.value].filter(([, other]) => other !== run));
    join(id, writing);
    announced.value = spoken(writing);
  });
}

function join(id: string, writing: Answer): void {
  if (unfinished.delete(writing.id)) change(id, (present) => withAnswer(present, writing));
}

async function write(writing: Answer, body: object, stopped: AbortSignal, show: () => void): Promise<void> {
  try {
    const response = await ask("/v1/chat/completions", { method: "POST", body, signal: stopped });
    settle(writing, await readInto(writing, response.body!, show));
  } catch (error) {
    writing.end = stopped.aborted ? "stopped" : "failed";
    if (!stopped.aborted) writing.error = wordsOf(error);
  }
}

/** Whether the stream said that it was done. */
async function readInto(writing: Answer, body: ReadableStream<Uint8Array>, show: () => void): Promise<boolean> {
  for await (const data of eventsOf(body)) {
    if (data === "[DONE]") return true;
    fold(writing, JSON.parse(data) as Chunk, performance.now());
    show();
  }
  return false;
}

function wordsOf(error: unknown): string {
  if (!(error instanceof ApiError)) return "The connection was lost before the answer had ended.";
  return error.retryAfterS === null ? error.message : `${error.message} (try again in ${error.retryAfterS} s)`;
}

function spoken({ end, error, text }: Answer): string {
  if (end === "failed") return `No answer: ${error}`;
  return end === "stopped" ? "Stopped." : `Answer: ${text}`;
}

function oncePerFrame(draw: () => void): () => void {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      draw();
    });
  };
}

/** A page that is closed keeps what it has of them. */
addEventListener("pagehide", () => {
  for (const [id, run] of runs.value) {
    join(id, { ...run.shown.value, end: "stopped" });
    run.stop();
  }
  saveNow();
});
