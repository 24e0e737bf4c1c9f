/** Copies a text and says so for a moment. */
import { useEffect, useState } from "preact/hooks";

import { Icon } from "./icons";

const SAID_FOR_MS = 1600;

interface CopyProps {
  text: () => string;
  label?: string;
  /** With the word beside the sign. */
  wordy?: boolean;
}

export function CopyButton({ text, label = "Copy", wordy = false }: CopyProps) {
  const [told, tell] = useState<"Copied" | "Not copied" | null>(null);
  useEffect(() => {
    const timer = told ? setTimeout(() => tell(null), SAID_FOR_MS) : undefined;
    return () => clearTimeout(timer);
  }, [told]);
  async function copy(): Promise<void> {
    tell((await copyText(text())) ? "Copied" : "Not copied");
  }
  const name = told ?? label;
  return (
    <button type="button" class={wordy ? "quiet" : "icon-button"} aria-label={name} title={name} onClick={copy}>
      <Icon name={told === "Copied" ? "done" : told ? "close" : "copy"} />
      {wordy && <span>{name}</span>}
    </button>
  );
}

/** Browsers have the clipboard only where the page came by https or from this machine; the old way works elsewhere. */
async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text: string): boolean {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  // Inside an open dialog nothing outside it can be selected.
  (before?.closest("dialog") ?? document.body).append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (before instanceof HTMLElement) before.focus();
  return isCopied;
}
