/** A text of the model as markdown. While it grows it is read again a few times a second; blocks that stay are kept. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { CopyButton } from "./copy";
import { blocksOf, sanitised } from "./markdown";

const INTERVAL_MS = 60;

export function MarkdownView({ text, isWriting }: { text: string; isWriting: boolean }) {
  const slowed = useSlowed(text, INTERVAL_MS);
  const shown = isWriting ? slowed : text;
  const blocks = useMemo(() => blocksOf(shown), [shown]);
  return (
    <div class="markdown">
      {blocks.map((block) =>
        block.kind === "code" ? (
          <CodeBlock code={block.code} language={block.language} />
        ) : (
          <HtmlBlock html={block.html} />
        ),
      )}
    </div>
  );
}

function HtmlBlock({ html }: { html: string }) {
  const safe = useMemo(() => ({ __html: sanitised(html) }), [html]);
  return <div class="block" dangerouslySetInnerHTML={safe} />;
}

export function CodeBlock({ code, language }: { code: string; language: string }) {
  return (
    <figure class="code">
      <figcaption>
        <span>{language || "code"}</span>
        <CopyButton text={() => code} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{code}</code>
      </pre>
    </figure>
  );
}

/** `value` as it was at most `ms` ago. */
function useSlowed<T>(value: T, ms: number): T {
  const [shown, show] = useState(value);
  const latest = useRef(value);
  const timer = useRef<ReturnType<typeof setTimeout>>();
  latest.current = value;
  useEffect(() => {
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      show(latest.current);
    }, ms);
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return shown;
}
