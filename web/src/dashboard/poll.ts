/** Asks again and again while somebody looks, and says what keeps it from an answer. */
import { ApiError } from "../api/client";

/** What a panel has: data, or why there are none. */
export interface Answer<T> {
  data: T | null;
  problem: string | null;
}

export const NOTHING_YET: Answer<never> = { data: null, problem: null };

/** Calls `once` now and `intervalMs` after each end of it, but not while the page is hidden. Returns how to stop. */
export function poll(once: (signal: AbortSignal) => Promise<void>, intervalMs: number): () => void {
  const stop = new AbortController();
  let timer: ReturnType<typeof setTimeout>;
  async function again(): Promise<void> {
    if (!document.hidden) await once(stop.signal).catch(unlessAborted);
    if (!stop.signal.aborted) timer = setTimeout(again, intervalMs);
  }
  void again();
  return () => {
    stop.abort();
    clearTimeout(timer);
  };
}

function unlessAborted(error: unknown): void {
  if (!(error instanceof DOMException && error.name === "AbortError")) throw error;
}

/** In words that fit into a panel; what is no answer of the server is thrown on. */
export function problemOf(error: unknown, scope: string): string {
  if (!(error instanceof ApiError)) throw error;
  switch (error.status) {
    case 0:
      return "The server does not answer.";
    case 401:
      return "This needs an API key.";
    case 403:
      return `This needs a key with the scope ${scope}.`;
    case 404:
      return "This server does not serve it here.";
    case 503:
      return "The server is not ready.";
    default:
      return error.message;
  }
}
