/** What a conversation is, and the edits of it. Pure: every edit gives a new record. */
import { NO_SETTINGS, type Settings } from "./settings";

/** One token of an answer and what else it might have been: texts with natural logarithms of probabilities. */
export interface TokenChance {
  text: string;
  logprob: number;
  top: [text: string, logprob: number][];
}

export interface ToolCall {
  name: string;
  /** As the model wrote them; JSON if it did well. */
  arguments: string;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number };
  completion_tokens_details?: { reasoning_tokens?: number };
  timings?: Record<string, unknown>;
}

/** As the browser saw it, on the clock of `performance.now()`. */
export interface Times {
  sentMs: number;
  firstMs: number | null;
  lastMs: number | null;
  /** Chunks with something in them: as good as tokens where nobody counted those. */
  numPieces: number;
}

export interface Answer {
  role: "assistant";
  id: string;
  model: string;
  /** Whether JSON was asked for. */
  isJson: boolean;
  text: string;
  reasoning: string;
  toolCalls: ToolCall[];
  tokens: TokenChance[];
  /** null: in progress. */
  end: "finished" | "stopped" | "failed" | null;
  /** What the server gives as the reason: stop, length, ... */
  finishReason: string | null;
  error: string | null;
  usage: Usage | null;
  times: Times;
}

export interface Question {
  role: "user";
  id: string;
  text: string;
}

export type Turn = Question | Answer;

export interface Conversation {
  id: string;
  /** Given by the user; empty: named after its first question. */
  name: string;
  system: string;
  settings: Settings;
  turns: Turn[];
  changedMs: number;
}

const TITLE_CHARS = 48;

export function newConversation(settings: Settings = NO_SETTINGS): Conversation {
  return { id: newId(), name: "", system: "", settings, turns: [], changedMs: Date.now() };
}

export function newAnswer(sentMs: number, isJson = false): Answer {
  return {
    role: "assistant", id: newId(), model: "", isJson, text: "", reasoning: "", toolCalls: [], tokens: [],
    end: null, finishReason: null, error: null, usage: null, times: { sentMs, firstMs: null, lastMs: null, numPieces: 0 },
  };
}

export function titleOf(conversation: Conversation): string {
  if (conversation.name) return conversation.name;
  const words = conversation.turns.find((turn) => turn.role === "user")?.text.trim().replace(/\s+/g, " ");
  if (!words) return "New conversation";
  const characters = [...words];
  return characters.length <= TITLE_CHARS ? words : `${characters.slice(0, TITLE_CHARS).join("").trimEnd()}…`;
}

export function withQuestion(conversation: Conversation, text: string): Conversation {
  return withTurns(conversation, [...conversation.turns, { role: "user", id: newId(), text }]);
}

export function withAnswer(conversation: Conversation, answer: Answer): Conversation {
  return withTurns(conversation, [...conversation.turns, answer]);
}

/** The question `id` says `text` now, and what came after it is gone. */
export function withEditedQuestion(conversation: Conversation, id: string, text: string): Conversation {
  const index = conversation.turns.findIndex((turn) => turn.id === id && turn.role === "user");
  if (index < 0) return conversation;
  return withTurns(conversation, [...conversation.turns.slice(0, index), { role: "user", id, text }]);
}

/** Up to its last question, which waits for an answer then. */
export function withoutLastAnswer(conversation: Conversation): Conversation {
  const last = conversation.turns.findLastIndex((turn) => turn.role === "user");
  return withTurns(conversation, conversation.turns.slice(0, last + 1));
}

function withTurns(conversation: Conversation, turns: Turn[]): Conversation {
  return { ...conversation, turns, changedMs: Date.now() };
}

/** `crypto.randomUUID` exists only where the page came by https. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
