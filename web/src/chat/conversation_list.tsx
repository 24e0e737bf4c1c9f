/** The conversations of this browser: open, rename, delete, take a deletion back. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { erase, rename } from "./actions";
import { conversations, current, deleted, kept, open, openNew, takeBackRemoval } from "./book";
import { titleOf, type Conversation } from "./conversation";
import { Icon, IconButton } from "./icons";
import { closeDrawer } from "./layout_state";
import { runs } from "./runs";

export function ConversationList() {
  return (
    <>
      <button type="button" class="quiet new" onClick={() => (openNew(), closeDrawer())}>
        <Icon name="add" />
        <span>New conversation</span>
      </button>
      <ul class="conversations">
        {conversations.value.map((conversation) => (
          <Row key={conversation.id} conversation={conversation} />
        ))}
      </ul>
      {conversations.value.length === 0 && <p class="hint">Conversations are kept in this browser only.</p>}
      <Deleted />
      <Fullness />
    </>
  );
}

function Row({ conversation }: { conversation: Conversation }) {
  const isRenaming = useSignal(false);
  const title = titleOf(conversation);
  if (isRenaming.value) return <RenameBox conversation={conversation} onEnd={() => (isRenaming.value = false)} />;
  const isCurrent = conversation.id === current.value.id;
  return (
    <li class="conversation" data-current={isCurrent}>
      <button
        type="button"
        class="title"
        title={title}
        aria-current={isCurrent ? "true" : undefined}
        onClick={() => (open(conversation.id), closeDrawer())}
        onDblClick={() => (isRenaming.value = true)}
      >
        {title}
        {runs.value.has(conversation.id) && <span class="busy" role="img" aria-label="being answered" />}
      </button>
      <span class="row-actions">
        <IconButton icon="edit" label={`Rename ${title}`} onClick={() => (isRenaming.value = true)} />
        <IconButton icon="erase" label={`Delete ${title}`} onClick={() => erase(conversation.id)} />
      </span>
    </li>
  );
}

function RenameBox({ conversation, onEnd }: { conversation: Conversation; onEnd: () => void }) {
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    box.current!.focus();
    box.current!.select();
  }, []);
  function take(event: FocusEvent): void {
    const typed = (event.currentTarget as HTMLInputElement).value.trim();
    if (typed !== titleOf(conversation)) rename(conversation.id, typed);
    onEnd();
  }
  /** Both end by leaving the box, which takes what is in it. */
  function onKeyDown(event: KeyboardEvent): void {
    if (event.key !== "Escape" && event.key !== "Enter") return;
    event.preventDefault(); // Escape would close a drawer
    event.stopPropagation();
    if (event.key === "Escape") box.current!.value = titleOf(conversation);
    box.current!.blur();
  }
  return (
    <li class="conversation">
      <input
        ref={box}
        aria-label="Name of the conversation"
        defaultValue={titleOf(conversation)}
        onKeyDown={onKeyDown}
        onBlur={take}
      />
    </li>
  );
}

function Deleted() {
  if (!deleted.value) return null;
  return (
    <p class="note" role="status">
      <span>Deleted “{titleOf(deleted.value)}”.</span>
      <button type="button" class="quiet" onClick={takeBackRemoval}>
        Undo
      </button>
    </p>
  );
}

const FULL = {
  whole: null,
  "without probabilities":
    "The browser's storage is nearly full: the last conversation was kept without its token probabilities.",
  not:
    "The browser keeps nothing more: what is new is lost when this page is closed. " +
    "Delete conversations to make room.",
};

function Fullness() {
  const told = FULL[kept.value];
  return told && <p class="note warning" role="status">{told}</p>;
}
