/** Probabilities of tokens in words and steps. Pure. */
import type { TokenChance } from "./conversation";

export interface Alternative {
  text: string;
  probability: number;
  isChosen: boolean;
}

/** All that the server told of this position, likeliest first, the chosen one among them. */
export function alternativesOf(token: TokenChance): Alternative[] {
  const others = token.top.filter(([text]) => text !== token.text);
  const all: [string, number][] = [[token.text, token.logprob], ...others];
  const sorted = all.sort(([, a], [, b]) => b - a);
  return sorted.map(([text, logprob]) => ({
    text, probability: Math.exp(logprob), isChosen: text === token.text,
  }));
}

/** Lower bounds of the steps that tokens are coloured in; below the last one is a step more. */
const STEPS = [0.9, 0.6, 0.3, 0.1];

/** 0: nearly certain, 4: unlikely. */
export function stepOf(logprob: number): number {
  const step = STEPS.findIndex((bound) => Math.exp(logprob) >= bound);
  return step < 0 ? STEPS.length : step;
}

export function percent(probability: number): string {
  const value = probability * 100;
  if (value > 0 && value < 0.01) return "<0.01 %";
  if (value > 99.99 && value < 100) return ">99.99 %";
  return `${value.toFixed(value < 1 ? 2 : value < 99.95 ? 1 : 2).replace(/\.?0+$/, "")} %`;
}

const MARKS: Record<string, string> = { "\n": "⏎", "\t": "⇥", " ": "␣", "\r": "␍" };

/** A token's text where spaces must be seen: those at its ends, and line feeds anywhere. */
export function visible(text: string): string {
  if (text === "") return "(empty)";
  return text.replace(/^ +| +$|[\n\t\r]/g, (found) => [...found].map((c) => MARKS[c]).join(""));
}
