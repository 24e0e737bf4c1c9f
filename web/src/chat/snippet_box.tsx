/** The present request as code to take along. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { apiUrl } from "../api/address";
import { apiKey } from "../api/key";
import { modelNames } from "../api/server_state";
import { draftOf } from "./actions";
import { current } from "./book";
import { CopyButton } from "./copy";
import { IconButton } from "./icons";
import { isSnippetOpen } from "./layout_state";
import { chatBody } from "./request";
import { problemIn } from "./settings";
import { curlSnippet, pythonSnippet } from "./snippet";

const LANGUAGES = { curl: "curl", python: "Python" } as const;
const language = signal<keyof typeof LANGUAGES>("curl");

export function SnippetBox() {
  return isSnippetOpen.value ? <OpenBox /> : null;
}

function OpenBox() {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => box.current!.showModal(), []);
  const close = (): void => void (isSnippetOpen.value = false);
  const problem = problemIn(current.value.settings);
  const code = problem ?? snippet();
  return (
    <dialog ref={box} class="snippet" aria-labelledby="snippet-title" onClose={close}>
      <header>
        <h2 id="snippet-title">This request as code</h2>
        <IconButton icon="close" label="Close" onClick={close} />
      </header>
      <div class="choice">
        {Object.entries(LANGUAGES).map(([name, title]) => (
          <button
            type="button"
            class="quiet"
            aria-pressed={language.value === name}
            onClick={() => (language.value = name as keyof typeof LANGUAGES)}
          >
            {title}
          </button>
        ))}
        {!problem && <CopyButton wordy text={() => code} />}
      </div>
      {problem ? (
        <p class="error">{problem}</p>
      ) : (
        <pre tabIndex={0} aria-label="Code">
          <code>{code}</code>
        </pre>
      )}
      <p class="hint">{explanation()}</p>
    </dialog>
  );
}

function snippet(): string {
  const base = apiUrl("/v1");
  const body = chatBody(current.value, modelNames.value, draftOf(current.value.id).trim());
  return language.value === "curl" ? curlSnippet(base, body, apiKey.value !== "") : pythonSnippet(base, body);
}

function explanation(): string {
  const key = apiKey.value ? " It reads the key from the variable API_KEY." : "";
  return `With the message that is being written, or else the last one that was sent.${key}`;
}
