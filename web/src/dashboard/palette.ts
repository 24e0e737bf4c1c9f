/** Colours of the style sheets for what draws on a canvas, which knows neither custom properties nor light-dark(). */
import { effect, signal } from "@preact/signals";

import { theme } from "../shell/theme";

/** Counts the changes between light and dark, by the button or by the system: who draws reads it to draw again. */
export const paletteAge = signal(0);
const known = new Map<string, string>();

/** What a custom property is at present, as rgb(). */
export function colourOf(token: string): string {
  const found = known.get(token) ?? computedColour(token);
  known.set(token, found);
  return found;
}

/** The same, and so much of it covers what is behind: 0 to 1. */
export function fadedColourOf(token: string, share: number): string {
  const parts = colourOf(token).match(/[\d.]+/g);
  return parts && parts.length >= 3 ? `rgba(${parts.slice(0, 3).join(", ")}, ${share})` : colourOf(token);
}

function computedColour(token: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function forget(): void {
  known.clear();
  paletteAge.value = paletteAge.peek() + 1;
}

effect(() => {
  void theme.value;
  queueMicrotask(forget); // the attribute is set by then
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forget);
