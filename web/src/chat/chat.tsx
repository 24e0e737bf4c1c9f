/** The playground: conversations, the messages of one with what is written next, and its settings. */
import "../style/chat.css";
import "../style/chat_text.css";

import { current } from "./book";
import { Composer } from "./composer";
import { ConversationList } from "./conversation_list";
import { titleOf } from "./conversation";
import { Icon } from "./icons";
import { isShown, isSnippetOpen, toggle, type PanelName } from "./layout_state";
import { Messages } from "./messages";
import { Panel } from "./panel";
import { announced } from "./runs";
import { numChanged } from "./settings";
import { SettingsPanel } from "./settings_panel";
import { SnippetBox } from "./snippet_box";

export function Chat() {
  const { id } = current.value;
  return (
    <main class="chat">
      <Panel name="list" label="Conversations">
        <ConversationList />
      </Panel>
      <section class="talk" aria-label="Conversation">
        <Bar />
        <Messages key={id} />
        <Composer key={`${id} composer`} />
      </section>
      <Panel name="settings" label="Settings">
        <SettingsPanel key={id} />
      </Panel>
      <SnippetBox />
      <div class="visually-hidden" aria-live="polite">
        {announced.value}
      </div>
    </main>
  );
}

function Bar() {
  const changed = numChanged(current.value.settings);
  return (
    <header class="bar">
      <Toggle name="list" label="Conversations" />
      <h1>{titleOf(current.value)}</h1>
      <button type="button" class="quiet" onClick={() => (isSnippetOpen.value = true)}>
        <Icon name="code" />
        <span>Code</span>
      </button>
      <Toggle name="settings" label="Settings" count={changed} />
    </header>
  );
}

function Toggle({ name, label, count = 0 }: { name: PanelName; label: string; count?: number }) {
  return (
    <button type="button" class="quiet" aria-expanded={isShown(name)} onClick={() => toggle(name)} title={label}>
      <Icon name={name} />
      <span class={name === "list" ? "visually-hidden" : undefined}>{label}</span>
      {count > 0 && (
        <span class="count">
          {count}
          <span class="visually-hidden"> changed</span>
        </span>
      )}
    </button>
  );
}
