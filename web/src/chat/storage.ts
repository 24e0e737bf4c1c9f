/**
 * Conversations in the browser's storage: an entry each, so that two tabs do not overwrite each other's.
 * What cannot be read is left alone and not listed; what cannot be written is said, not thrown.
 */
import type { Answer, Conversation, Question, Turn } from "./conversation";
import { NO_SETTINGS, NUMBER_NAMES, type Settings } from "./settings";

export const PREFIX = "kvik.conversation.";
const VERSION = 1;

export type Kept = "whole" | "without probabilities" | "not";

export function loadAll(storage: Storage): Conversation[] {
  try {
    const keys = Array.from({ length: storage.length }, (_, i) => storage.key(i) ?? "");
    const found = keys.filter((key) => key.startsWith(PREFIX)).map((key) => parse(storage.getItem(key)));
    return found.filter((conversation) => conversation !== null);
  } catch {
    return []; // the browser may refuse its storage altogether
  }
}

/** Probabilities are most of a conversation's size: they are given up before it is. */
export function save(storage: Storage, conversation: Conversation): Kept {
  const key = PREFIX + conversation.id;
  if (tryToSet(storage, key, conversation)) return "whole";
  return tryToSet(storage, key, withoutProbabilities(conversation)) ? "without probabilities" : "not";
}

export function remove(storage: Storage, id: string): void {
  try {
    storage.removeItem(PREFIX + id);
  } catch {
    return; // it was never written either
  }
}

function tryToSet(storage: Storage, key: string, conversation: Conversation): boolean {
  try {
    storage.setItem(key, JSON.stringify({ version: VERSION, ...conversation }));
    return true;
  } catch {
    return false;
  }
}

function withoutProbabilities(conversation: Conversation): Conversation {
  const turns = conversation.turns.map((turn) => (turn.role === "assistant" ? { ...turn, tokens: [] } : turn));
  return { ...conversation, turns };
}

/** null for what is no conversation of this version. What is missing in it has its default. */
export function parse(text: string | null): Conversation | null {
  try {
    const told = JSON.parse(text ?? "") as Partial<Conversation> & { version?: number };
    if (told.version !== VERSION || typeof told.id !== "string" || !Array.isArray(told.turns)) return null;
    return {
      id: told.id,
      name: string(told.name),
      system: string(told.system),
      settings: settingsOf(told.settings),
      turns: told.turns.map(turnOf).filter((turn) => turn !== null),
      changedMs: typeof told.changedMs === "number" ? told.changedMs : 0,
    };
  } catch {
    return null;
  }
}

function settingsOf(told: Partial<Settings> | undefined): Settings {
  const numbers = NUMBER_NAMES.map((name) => [name, string(told?.numbers?.[name])]).filter(([, typed]) => typed);
  return {
    ...NO_SETTINGS,
    model: string(told?.model),
    numbers: Object.fromEntries(numbers) as Settings["numbers"],
    stop: string(told?.stop),
    logprobs: told?.logprobs === true,
    useSchema: told?.useSchema === true,
    schema: string(told?.schema),
  };
}

function turnOf(told: Partial<Turn> | null): Turn | null {
  if (typeof told?.id !== "string" || typeof told.text !== "string") return null;
  if (told.role === "user") return { role: "user", id: told.id, text: told.text } satisfies Question;
  return told.role === "assistant" ? answerOf(told, told.id, told.text) : null;
}

function answerOf(told: Partial<Answer>, id: string, text: string): Answer {
  return {
    role: "assistant", id, text,
    model: string(told.model),
    isJson: told.isJson === true,
    reasoning: string(told.reasoning),
    toolCalls: Array.isArray(told.toolCalls) ? told.toolCalls : [],
    tokens: Array.isArray(told.tokens) ? told.tokens : [],
    end: told.end ?? "stopped",
    finishReason: told.finishReason ?? null,
    error: told.error ?? null,
    usage: told.usage ?? null,
    times: told.times ?? { sentMs: 0, firstMs: null, lastMs: null, numPieces: 0 },
  };
}

function string(value: unknown): string {
  return typeof value === "string" ? value : "";
}
