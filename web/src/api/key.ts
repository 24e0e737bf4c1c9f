import { signal } from "@preact/signals";

import { tabStorage } from "./browser_storage";

const STORED = "kvik.key";

/** The API key that requests carry; empty: none. Kept until the browser's tab is closed. */
export const apiKey = signal(tabStorage.getItem(STORED) ?? "");
/** Why the last request was refused, while the page waits for a key; null: no key is wanted. */
export const keyWanted = signal<string | null>(null);

export function useKey(key: string): void {
  apiKey.value = key;
  keyWanted.value = null;
  if (key) tabStorage.setItem(STORED, key);
  else tabStorage.removeItem(STORED);
}
