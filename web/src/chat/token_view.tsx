/** An answer token by token, coloured by probability; that under the pointer or in focus shows its alternatives. */
import { useSignal } from "@preact/signals";
import { useId, useMemo, useRef } from "preact/hooks";

import { percent, stepOf, visible } from "./chances";
import type { TokenChance } from "./conversation";
import { TokenCard } from "./token_card";

/** Tokens that are drawn together: those that are complete are not looked at again. */
const GROUP = 64;

interface TokenViewProps {
  /** Grows in place while the answer is written. */
  tokens: TokenChance[];
  count: number;
}

export function TokenView({ tokens, count }: TokenViewProps) {
  const cardId = useId();
  const view = useRef<HTMLDivElement>(null);
  const shown = useSignal<HTMLElement | null>(null);
  const starts = Array.from({ length: Math.ceil(count / GROUP) }, (_, i) => i * GROUP);

  function show(event: Event): void {
    const element = (event.target as Element).closest<HTMLElement>("[data-index]");
    shown.value?.removeAttribute("aria-describedby");
    element?.setAttribute("aria-describedby", cardId);
    shown.value = element;
  }
  function hide(): void {
    shown.value = null;
  }
  /** One stop for the tab key; the arrows go from token to token. */
  function onKeyDown(event: KeyboardEvent): void {
    if (event.key === "Escape" && shown.value) {
      event.stopPropagation();
      return hide();
    }
    const next = nextIndex(event.key, indexOf(event.target as HTMLElement), count);
    if (next === null) return;
    event.preventDefault();
    focusOn(view.current!, next);
  }

  return (
    <div class="token-view">
      <div
        ref={view}
        class="tokens"
        role="group"
        aria-label="Tokens with their probabilities; arrow keys go from one to the next"
        onPointerOver={show}
        onPointerLeave={hide}
        onFocusIn={show}
        onFocusOut={hide}
        onKeyDown={onKeyDown}
      >
        {starts.map((start) => (
          <Group key={start} tokens={tokens} start={start} end={Math.min(start + GROUP, count)} />
        ))}
      </div>
      <p class="legend" aria-hidden="true">
        likely {[0, 1, 2, 3, 4].map((step) => <span data-step={step} />)} unlikely
      </p>
      {shown.value && <TokenCard id={cardId} token={tokens[indexOf(shown.value)]!} beside={shown.value} />}
    </div>
  );
}

function Group({ tokens, start, end }: { tokens: TokenChance[]; start: number; end: number }) {
  return useMemo(
    () => (
      <>
        {tokens.slice(start, end).map((token, i) => (
          <Token token={token} index={start + i} />
        ))}
      </>
    ),
    [tokens, start, end],
  );
}

function Token({ token, index }: { token: TokenChance; index: number }) {
  return (
    <span
      role="button"
      class="token"
      data-index={index}
      data-step={stepOf(token.logprob)}
      tabIndex={index === 0 ? 0 : -1}
      aria-label={`${visible(token.text)} ${percent(Math.exp(token.logprob))}`}
    >
      {token.text.trim() === "" && token.text.includes("\n") ? visible(token.text) + token.text : token.text}
    </span>
  );
}

function indexOf(element: HTMLElement): number {
  return Number(element.dataset["index"]);
}

function nextIndex(key: string, index: number, count: number): number | null {
  const targets: Record<string, number> = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: count - 1 };
  const target = targets[key];
  return target === undefined || Number.isNaN(index) ? null : Math.min(Math.max(target, 0), count - 1);
}

function focusOn(view: HTMLElement, index: number): void {
  view.querySelector<HTMLElement>('[tabindex="0"]')!.tabIndex = -1;
  const next = view.querySelector<HTMLElement>(`[data-index="${index}"]`)!;
  next.tabIndex = 0;
  next.focus();
}
