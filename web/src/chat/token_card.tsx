/** What else a token might have been, beside the token. */
import { useLayoutEffect, useRef } from "preact/hooks";

import { alternativesOf, percent, visible } from "./chances";
import type { TokenChance } from "./conversation";

const MARGIN_PX = 8;

export function TokenCard({ id, token, beside }: { id: string; token: TokenChance; beside: HTMLElement }) {
  const card = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => place(card.current!, beside.getClientRects()[0] ?? beside.getBoundingClientRect()));
  return (
    <div ref={card} id={id} class="token-card" role="tooltip">
      <table>
        <tbody>
          {alternativesOf(token).map(({ text, probability, isChosen }) => (
            <tr data-chosen={isChosen}>
              <td class="text">{visible(text)}</td>
              <td class="share" aria-hidden="true">
                <span style={{ width: `${probability * 100}%` }} />
              </td>
              <td class="percent">{percent(probability)}</td>
              <td class="mark">{isChosen && "chosen"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Below the token, or above it where there is more room; never outside the window. */
function place(card: HTMLElement, token: DOMRect): void {
  const { width, height } = card.getBoundingClientRect();
  const left = Math.min(token.left, innerWidth - width - MARGIN_PX);
  const below = token.bottom + MARGIN_PX;
  const top = below + height < innerHeight ? below : token.top - height - MARGIN_PX;
  card.style.left = `${Math.max(MARGIN_PX, left)}px`;
  card.style.top = `${Math.max(MARGIN_PX, top)}px`;
}
