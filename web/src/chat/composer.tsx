/** Where the next message is written. Enter sends; Escape, anywhere in the playground, stops the answer. */
import { useEffect, useRef } from "preact/hooks";

import { connection, isReady } from "../api/server_state";
import { canAsk, draftOf, isBusy, sendDraft, setDraft, stop } from "./actions";
import { current } from "./book";
import { Icon } from "./icons";
import { problemIn } from "./settings";

export function Composer() {
  const box = useRef<HTMLTextAreaElement>(null);
  const { id, settings } = current.value;
  const draft = draftOf(id);
  const isWriting = isBusy(id);
  const problem = problemIn(settings);
  const isSendable = canAsk.value && draft.trim() !== "";

  useEffect(focusBox, []);
  useEffect(() => stopOnEscape(id), [id]);

  function focusBox(): void {
    // On a phone this would open the keyboard over the page.
    if (matchMedia("(hover: hover)").matches) box.current!.focus();
  }
  function send(): void {
    if (isSendable) sendDraft(id);
    focusBox();
  }
  function onKeyDown(event: KeyboardEvent): void {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  }

  return (
    <form class="composer" onSubmit={(event) => (event.preventDefault(), send())}>
      <div class="box">
        <textarea
          ref={box}
          aria-label="Message"
          aria-describedby="composer-hint"
          placeholder="Message"
          rows={1}
          value={draft}
          onInput={(event) => setDraft(id, event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {isWriting ? (
          <button type="button" class="stop" onClick={() => (stop(id), focusBox())}>
            <Icon name="stop" />
            <span>Stop</span>
          </button>
        ) : (
          <button type="submit" disabled={!isSendable}>
            <Icon name="send" />
            <span>Send</span>
          </button>
        )}
      </div>
      <p id="composer-hint" class={problem ? "hint error" : "hint"}>
        {problem ?? hintOf(isWriting)}
      </p>
    </form>
  );
}

function hintOf(isWriting: boolean): string {
  if (isWriting) return "Esc stops";
  if (!isReady.value && connection.value !== "asking") return "Sending waits until the server is ready.";
  return "Enter sends, Shift+Enter starts a new line";
}

function stopOnEscape(id: string): () => void {
  function onKeyDown(event: KeyboardEvent): void {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) stop(id);
  }
  addEventListener("keydown", onKeyDown);
  return () => removeEventListener("keydown", onKeyDown);
}
