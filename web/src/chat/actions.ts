/** What the user may do with the open conversation; each is a change of the book and, mostly, a run. */
import { computed, signal } from "@preact/signals";

import { isReady } from "../api/server_state";
import { change, conversations, current, removeConversation } from "./book";
import { withEditedQuestion, withoutLastAnswer, withQuestion, type Conversation } from "./conversation";
import { answer, runs } from "./runs";
import { problemIn, type Settings } from "./settings";

/** What is written and not yet sent, by conversation. */
const drafts = signal<Readonly<Record<string, string>>>({});

export function draftOf(id: string): string {
  return drafts.value[id] ?? "";
}

export function setDraft(id: string, text: string): void {
  drafts.value = { ...drafts.value, [id]: text };
}

export function sendDraft(id: string): void {
  const text = draftOf(id).trim();
  if (text && askAfter(id, (conversation) => withQuestion(conversation, text))) setDraft(id, "");
}

export function regenerate(id: string): void {
  askAfter(id, withoutLastAnswer);
}

export function resend(id: string, questionId: string, text: string): void {
  askAfter(id, (conversation) => withEditedQuestion(conversation, questionId, text.trim()));
}

function askAfter(id: string, edit: (conversation: Conversation) => Conversation): boolean {
  if (!canAsk.value || id !== current.value.id) return false;
  change(id, edit);
  const conversation = conversations.value.find((one) => one.id === id);
  if (conversation) void answer(conversation);
  return true;
}

/** Whether the open conversation may ask: the server takes requests, none of its own is under way, its settings fit. */
export const canAsk = computed(
  () => isReady.value && !isBusy(current.value.id) && problemIn(current.value.settings) === null,
);

/** Whether an answer is being written. */
export function isBusy(id: string): boolean {
  return runs.value.has(id);
}

export function stop(id: string): void {
  runs.value.get(id)?.stop();
}

export function rename(id: string, name: string): void {
  change(id, (conversation) => ({ ...conversation, name: name.trim() }));
}

export function erase(id: string): void {
  stop(id);
  removeConversation(id);
}

export function setSystem(id: string, system: string): void {
  change(id, (conversation) => ({ ...conversation, system }));
}

export function setSettings(id: string, changed: Partial<Settings>): void {
  change(id, (conversation) => ({ ...conversation, settings: { ...conversation.settings, ...changed } }));
}
