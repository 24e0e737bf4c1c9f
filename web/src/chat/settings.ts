/** What the controls hold, as it was typed; empty means the server's default. Pure. */
import { schemaProblem } from "./json_schema";

interface NumberField {
  label: string;
  /** What the server takes; it has the last word. */
  range: string;
  whole?: boolean;
}

/** By the name on the wire. */
export const NUMBER_FIELDS = {
  temperature: { label: "Temperature", range: "0 to 2, 0 is greedy" },
  max_tokens: { label: "Max tokens", range: "at least 1", whole: true },
  top_p: { label: "Top p", range: "above 0, at most 1" },
  top_k: { label: "Top k", range: "at least 1, 0 is off", whole: true },
  min_p: { label: "Min p", range: "0 to 1" },
  seed: { label: "Seed", range: "a whole number", whole: true },
  presence_penalty: { label: "Presence penalty", range: "-2 to 2" },
  frequency_penalty: { label: "Frequency penalty", range: "-2 to 2" },
  repetition_penalty: { label: "Repetition penalty", range: "above 0, 1 is off" },
} as const satisfies Record<string, NumberField>;

export type NumberName = keyof typeof NUMBER_FIELDS;
export const NUMBER_NAMES = Object.keys(NUMBER_FIELDS) as NumberName[];

export interface Settings {
  /** Empty: the first one that is served. */
  model: string;
  numbers: Partial<Record<NumberName, string>>;
  /** One stop string per line, with escapes. */
  stop: string;
  logprobs: boolean;
  useSchema: boolean;
  schema: string;
}

export const NO_SETTINGS: Settings = {
  model: "", numbers: {}, stop: "", logprobs: false, useSchema: false, schema: "",
};

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** What is wrong with what was typed, or null. */
export function numberProblem(name: NumberName, typed: string): string | null {
  const text = typed.trim();
  const field: NumberField = NUMBER_FIELDS[name];
  if (!text) return null;
  if (!NUMBER.test(text)) return `${field.label} must be a number, for example ${field.whole ? "40" : "0.7"}.`;
  if (field.whole && !Number.isSafeInteger(Number(text))) return `${field.label} must be a whole number.`;
  return null;
}

/** The first reason why no request can be made of these settings. */
export function problemIn(settings: Settings): string | null {
  for (const name of NUMBER_NAMES) {
    const problem = numberProblem(name, settings.numbers[name] ?? "");
    if (problem) return problem;
  }
  return settings.useSchema ? schemaProblem(settings.schema) : null;
}

/** Only the numbers that were given. */
export function numbersIn(settings: Settings): Partial<Record<NumberName, number>> {
  const given = NUMBER_NAMES.filter((name) => settings.numbers[name]?.trim());
  return Object.fromEntries(given.map((name) => [name, Number(settings.numbers[name])]));
}

const ESCAPES: Record<string, string> = { "\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\" };

/** A line each; in it \n, \t, \r and \\ stand for what they stand for everywhere. */
export function stopStringsIn(typed: string): string[] {
  const lines = typed.split("\n").filter((line) => line !== "");
  return lines.map((line) => line.replace(/\\[ntr\\]/g, (escape) => ESCAPES[escape]!));
}

/** How many controls differ from the server's defaults. */
export function numChanged(settings: Settings): number {
  const others = [settings.model, settings.stop, settings.logprobs, settings.useSchema];
  return Object.keys(numbersIn(settings)).length + others.filter(Boolean).length;
}
