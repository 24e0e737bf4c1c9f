/** What the user said; can be said differently, which takes back all that came after it. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { canAsk, isBusy, resend } from "./actions";
import { CopyButton } from "./copy";
import type { Question } from "./conversation";
import { IconButton } from "./icons";

interface QuestionProps {
  question: Question;
  conversationId: string;
}

export function QuestionTurn({ question, conversationId }: QuestionProps) {
  const isEditing = useSignal(false);
  return (
    <article class="turn question" aria-label="You">
      {isEditing.value ? (
        <EditBox {...{ question, conversationId }} onEnd={() => (isEditing.value = false)} />
      ) : (
        <>
          <div class="said">{question.text}</div>
          <div class="actions">
            <CopyButton text={() => question.text} />
            <IconButton
              icon="edit"
              label="Edit"
              disabled={isBusy(conversationId)}
              onClick={() => (isEditing.value = true)}
            />
          </div>
        </>
      )}
    </article>
  );
}

function EditBox({ question, conversationId, onEnd }: QuestionProps & { onEnd: () => void }) {
  const box = useRef<HTMLTextAreaElement>(null);
  const text = useSignal(question.text);
  const isSendable = canAsk.value && text.value.trim() !== "";
  useEffect(() => {
    box.current!.focus();
    box.current!.setSelectionRange(question.text.length, question.text.length);
  }, []);
  function send(): void {
    if (!isSendable) return;
    onEnd();
    resend(conversationId, question.id, text.value);
  }
  function onKeyDown(event: KeyboardEvent): void {
    if (event.key === "Escape") {
      event.stopPropagation();
      onEnd();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  }
  return (
    <div class="edit">
      <textarea
        ref={box}
        aria-label="Edited text"
        rows={2}
        value={text.value}
        onInput={(event) => (text.value = event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <div class="actions">
        <span class="hint">What came after it is replaced.</span>
        <button type="button" class="quiet" onClick={onEnd}>
          Cancel
        </button>
        <button type="button" disabled={!isSendable} onClick={send}>
          Ask again
        </button>
      </div>
    </div>
  );
}
