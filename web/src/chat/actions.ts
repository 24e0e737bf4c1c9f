/** What the user may do with the open conversation; each is a change of the book and, mostly, a run. */
import { signal } from "@preact/signals";

import { change, conversations, removeConversation } from "./book";
import { withEditedQuestion, withoutLastAnswer, withQuestion, type Conversation } from "./conversation";
import { answer, runs } from "./runs";
import type { Settings } from "./settings";

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
  if (!text || isBusy(id)) return;
  setDraft(id, "");
  ask(id, (conversation) => withQuestion(conversation, text));
}

export function regenerate(id: string): void {
  ask(id, withoutLastAnswer);
}

export function resend(id: string, questionId: string, text: string): void {
  ask(id, (conversation) => withEditedQuestion(conversation, questionId, text.trim()));
}

function ask(id: string, edit: (conversation: Conversation) => Conversation): void {
  if (isBusy(id)) return;
  change(id, edit);
  const conversation = conversations.value.find((one) => one.id === id);
  if (conversation) void answer(conversation);
}

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
