/** Which panels and boxes of the playground are open, and whether there is room for them beside the messages. */
import { signal, type ReadonlySignal, type Signal } from "@preact/signals";

export type PanelName = "list" | "settings";

/** Whether a panel stands beside the messages; else it is a drawer over them. */
export const fits: Record<PanelName, ReadonlySignal<boolean>> = {
  list: media("(min-width: 48rem)"),
  settings: media("(min-width: 72rem)"),
};
/** Of panels that fit. */
const shown: Record<PanelName, Signal<boolean>> = { list: signal(true), settings: signal(true) };
/** The drawer that is open. */
export const drawer = signal<PanelName | null>(null);
export const isSnippetOpen = signal(false);

export function isShown(name: PanelName): boolean {
  return fits[name].value ? shown[name].value : drawer.value === name;
}

export function toggle(name: PanelName): void {
  if (fits[name].value) shown[name].value = !shown[name].value;
  else drawer.value = drawer.value === name ? null : name;
}

export function closeDrawer(): void {
  drawer.value = null;
}

function media(query: string): ReadonlySignal<boolean> {
  const list = matchMedia(query);
  const matches = signal(list.matches);
  list.addEventListener("change", () => {
    matches.value = list.matches;
    drawer.value = null;
  });
  return matches;
}
