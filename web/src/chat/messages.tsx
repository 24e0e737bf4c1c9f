/** The messages of the open conversation; stays at the end while new text comes, unless the reader went up. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { canAsk, regenerate } from "./actions";
import { AnswerTurn } from "./answer_turn";
import { current } from "./book";
import { Icon, IconButton } from "./icons";
import { QuestionTurn } from "./question_turn";
import { runs } from "./runs";

const NEAR_PX = 40;

export function Messages() {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const isAtEnd = useSignal(true);
  const lastTop = useRef(0);
  const toEnd = (): void => scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  const { turns, id } = current.value;
  const run = runs.value.get(id);

  useEffect(() => {
    const observer = new ResizeObserver(() => isAtEnd.peek() && toEnd());
    observer.observe(content.current!);
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (run) isAtEnd.value = true;
  }, [run]);
  function onScroll({ currentTarget }: { currentTarget: HTMLElement }): void {
    const { scrollHeight, scrollTop, clientHeight } = currentTarget;
    const isNear = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    // What grew since the last frame also moves the end away: only who goes up leaves it.
    if (isNear) isAtEnd.value = true;
    else if (scrollTop < lastTop.current) isAtEnd.value = false;
    lastTop.current = scrollTop;
  }

  return (
    <div class="messages-frame">
      <div
        ref={scroller}
        class="messages"
        role="log"
        aria-label="Messages"
        aria-live="off"
        tabIndex={0}
        onScroll={onScroll}
      >
        <div ref={content} class="column">
          {turns.length === 0 && <Welcome />}
          {turns.map((turn, index) =>
            turn.role === "user" ? (
              <QuestionTurn key={turn.id} question={turn} conversationId={id} />
            ) : (
              <AnswerTurn key={turn.id} source={turn} isLast={!run && index === turns.length - 1} conversationId={id} />
            ),
          )}
          {run && <AnswerTurn key={run.answerId} source={run.shown} isLast={false} conversationId={id} />}
          {!run && turns.at(-1)?.role === "user" && <Unanswered conversationId={id} />}
        </div>
      </div>
      {!isAtEnd.value && <IconButton icon="down" label="To the end" class="to-end" onClick={toEnd} />}
    </div>
  );
}

function Welcome() {
  return (
    <div class="welcome">
      <h2>Try the model</h2>
      <p>Write a message below. Conversations stay in this browser; what you send goes to this server only.</p>
    </div>
  );
}

/** The page was closed before an answer had begun. */
function Unanswered({ conversationId }: { conversationId: string }) {
  return (
    <p class="note">
      <span>There is no answer to this yet.</span>
      <button type="button" class="quiet" disabled={!canAsk.value} onClick={() => regenerate(conversationId)}>
        <Icon name="retry" />
        <span>Retry</span>
      </button>
    </p>
  );
}
