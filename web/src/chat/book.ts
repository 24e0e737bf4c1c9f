/** The conversations of this browser, and which one is open. The only writer of both; what changes is kept. */
import { computed, signal } from "@preact/signals";

import { isLasting, lastingStorage, tabStorage } from "../api/browser_storage";
import { newConversation, type Conversation } from "./conversation";
import { loadAll, parse, PREFIX, remove, save, type Kept } from "./storage";

const OPEN = "kvik.conversation-open";
const SAVED_AFTER_MS = 300;

/** The one that was changed last comes first. */
export const conversations = signal<Conversation[]>(inOrder(loadAll(lastingStorage)));
/** The last one that was deleted, while that can be taken back. */
export const deleted = signal<Conversation | null>(null);
/** How much of the last saved one the browser took. */
export const kept = signal<Kept>("whole");

const openId = signal(tabStorage.getItem(OPEN) ?? "");
const fresh = signal(newConversation());

/** Never none: a new one stands in, and joins the others once there is something in it. */
export const current = computed<Conversation>(() => {
  if (openId.value === fresh.value.id) return fresh.value;
  return conversations.value.find((one) => one.id === openId.value) ?? conversations.value[0] ?? fresh.value;
});

export function open(id: string): void {
  openId.value = id;
  tabStorage.setItem(OPEN, id);
}

/** A new one, with the settings of the one that was open. */
export function openNew(): void {
  fresh.value = newConversation(current.value.settings);
  open(fresh.value.id);
}

/** Replace the conversation `id` by what `edit` makes of it. One that is gone stays gone. */
export function change(id: string, edit: (conversation: Conversation) => Conversation): void {
  const before = id === fresh.value.id ? fresh.value : conversations.value.find((one) => one.id === id);
  if (!before) return;
  const after = edit(before);
  if (id !== fresh.value.id) return keep(after);
  fresh.value = after;
  if (!isWorthKeeping(after)) return;
  keep(after);
  open(id);
  fresh.value = newConversation(after.settings);
}

function isWorthKeeping({ turns, name, system }: Conversation): boolean {
  return turns.length > 0 || name !== "" || system !== "";
}

function keep(conversation: Conversation): void {
  put(conversation);
  unsaved.add(conversation.id);
  clearTimeout(timer);
  timer = setTimeout(saveNow, SAVED_AFTER_MS);
}

export function removeConversation(id: string): void {
  deleted.value = conversations.value.find((one) => one.id === id) ?? null;
  conversations.value = conversations.value.filter((one) => one.id !== id);
  unsaved.delete(id);
  remove(lastingStorage, id);
  kept.value = "whole"; // there is room again; the next save tells
}

export function takeBackRemoval(): void {
  const conversation = deleted.value;
  if (!conversation) return;
  deleted.value = null;
  keep(conversation);
  open(conversation.id);
}

function put(conversation: Conversation): void {
  conversations.value = inOrder([conversation, ...conversations.value.filter((one) => one.id !== conversation.id)]);
}

function inOrder(list: Conversation[]): Conversation[] {
  return list.toSorted((a, b) => b.changedMs - a.changedMs);
}

const unsaved = new Set<string>();
let timer: ReturnType<typeof setTimeout> | undefined;

export function saveNow(): void {
  for (const one of conversations.value.filter(({ id }) => unsaved.has(id))) {
    kept.value = isLasting ? save(lastingStorage, one) : "not";
  }
  unsaved.clear();
}

/** What another tab kept or deleted. */
addEventListener("storage", ({ key, newValue }) => {
  if (!key?.startsWith(PREFIX)) return;
  const id = key.slice(PREFIX.length);
  const conversation = parse(newValue);
  if (conversation) put(conversation);
  else if (newValue === null) conversations.value = conversations.value.filter((one) => one.id !== id);
});
