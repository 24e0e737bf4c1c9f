/** The frame around both views: name, tabs, state of the server, theme, and the box that asks for a key. */
import { signal } from "@preact/signals";

import { modelNames } from "../api/server_state";
import { Chat } from "../chat/chat";
import { Dashboard } from "../dashboard/dashboard";
import { KeyBox } from "./key_box";
import { StateLine } from "./state_line";
import { nextTheme, theme } from "./theme";

const VIEWS = { chat: "Chat", server: "Server" } as const;
type View = keyof typeof VIEWS;

const view = signal<View>(viewIn(location.hash));
addEventListener("hashchange", () => (view.value = viewIn(location.hash)));

function viewIn(hash: string): View {
  return hash === "#server" ? "server" : "chat";
}

export function Shell() {
  return (
    <>
      <header class="top">
        <span class="brand">kvik</span>
        <nav aria-label="Views">
          {Object.entries(VIEWS).map(([name, title]) => (
            <a href={`#${name}`} aria-current={view.value === name ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <span class="model" title="The model that is served">
          {modelNames.value[0]}
        </span>
        <button class="quiet" onClick={nextTheme} title="Change between light, dark and the system's choice">
          Theme: {theme.value}
        </button>
      </header>
      <StateLine />
      {view.value === "chat" ? <Chat /> : <Dashboard />}
      <KeyBox />
    </>
  );
}
