import { signal } from "@preact/signals";

import { tabStorage } from "./browser_storage";

const STORED = "kvik.key";

/** The API key that requests carry; empty: none. Kept until the browser's tab is closed. */
export const apiKey = signal(tabStorage.getItem(STORED) ?? "");
/** Why the last request was refused, while the page waits for a key; null: no key is wanted. */
export const keyWanted = signal<string | null>(null);

/** Whether a person would rather give none. */
let isDeclined = false;

/** The server has refused for want of a key. What is asked again and again does not insist. */
export function wantKey(reason: string, isPoll = false): void {
  if (!(isPoll && isDeclined)) keyWanted.value = reason;
}

export function declineKey(): void {
  isDeclined = true;
  keyWanted.value = null;
}

export function useKey(key: string): void {
  apiKey.value = key;
  isDeclined = false;
  keyWanted.value = null;
  if (key) tabStorage.setItem(STORED, key);
  else tabStorage.removeItem(STORED);
}
