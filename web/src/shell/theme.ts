import { effect, signal } from "@preact/signals";

import { lastingStorage } from "../api/browser_storage";

export type Theme = "system" | "light" | "dark";

const STORED = "kvik.theme";

/** What was chosen; "system" follows the browser. */
export const theme = signal<Theme>((lastingStorage.getItem(STORED) as Theme | null) ?? "system");

effect(() => {
  lastingStorage.setItem(STORED, theme.value);
  if (theme.value === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme.value;
});

export function nextTheme(): void {
  const order: Theme[] = ["system", "light", "dark"];
  theme.value = order[(order.indexOf(theme.value) + 1) % order.length]!;
}
