/** One answer of the model, while it is written and after: text or tokens, reasoning, calls, errors, figures. */
import { useSignal, type ReadonlySignal } from "@preact/signals";

import { modelNames } from "../api/server_state";
import { canAsk, regenerate } from "./actions";
import { CopyButton } from "./copy";
import type { Answer, ToolCall } from "./conversation";
import { Icon, IconButton } from "./icons";
import { CodeBlock, MarkdownView } from "./markdown_view";
import { factsOf, timingFacts, type Fact } from "./measure";
import { TokenView } from "./token_view";

interface AnswerProps {
  /** A signal while it is written: only this turn is drawn again then. */
  source: Answer | ReadonlySignal<Answer>;
  isLast: boolean;
  conversationId: string;
}

export function AnswerTurn({ source, isLast, conversationId }: AnswerProps) {
  const answer = "value" in source ? source.value : source;
  const wantsTokens = useSignal(true);
  const showsTokens = wantsTokens.value && answer.tokens.length > 0;
  const isWriting = answer.end === null;
  return (
    <article class="turn answer" aria-label="Assistant" aria-busy={isWriting}>
      <Reasoning answer={answer} />
      {showsTokens ? <TokenView tokens={answer.tokens} count={answer.tokens.length} /> : <Text answer={answer} />}
      {answer.toolCalls.map((call) => (
        <Call call={call} />
      ))}
      {isWriting && <Waiting answer={answer} />}
      {answer.error !== null && (
        <Failure text={answer.error} onRetry={isLast ? () => regenerate(conversationId) : null} />
      )}
      {!isWriting && (
        <footer>
          <div class="actions">
            {answer.text !== "" && <CopyButton text={() => answer.text} />}
            {answer.tokens.length > 0 && (
              <IconButton
                icon="tokens"
                label="Token probabilities"
                pressed={showsTokens}
                onClick={() => (wantsTokens.value = !wantsTokens.value)}
              />
            )}
            {isLast && answer.error === null && (
              <IconButton
                icon="retry"
                label="Regenerate"
                disabled={!canAsk.value}
                onClick={() => regenerate(conversationId)}
              />
            )}
          </div>
          <Figures answer={answer} />
        </footer>
      )}
    </article>
  );
}

function Text({ answer }: { answer: Answer }) {
  if (answer.isJson && answer.text) return <CodeBlock code={answer.text} language="json" />;
  return <MarkdownView text={answer.text} isWriting={answer.end === null} />;
}

function Reasoning({ answer }: { answer: Answer }) {
  if (!answer.reasoning) return null;
  return (
    <details class="reasoning">
      <summary>{answer.end === null && !answer.text ? "Reasoning…" : "Reasoning"}</summary>
      <div>{answer.reasoning}</div>
    </details>
  );
}

function Call({ call }: { call: ToolCall }) {
  return (
    <figure class="call">
      <figcaption>calls {call.name}</figcaption>
      <pre tabIndex={0}>
        <code>{indented(call.arguments)}</code>
      </pre>
    </figure>
  );
}

function indented(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // still being written, or not well
  }
}

function Waiting({ answer }: { answer: Answer }) {
  if (answer.times.firstMs !== null) return null;
  return (
    <p class="waiting">
      <span class="visually-hidden">Waiting for the first token</span>
    </p>
  );
}

function Failure({ text, onRetry }: { text: string; onRetry: (() => void) | null }) {
  return (
    <div class="failure">
      <p>{text}</p>
      {onRetry && (
        <button type="button" class="bad" disabled={!canAsk.value} onClick={onRetry}>
          <Icon name="retry" />
          <span>Retry</span>
        </button>
      )}
    </div>
  );
}

function Figures({ answer }: { answer: Answer }) {
  const timings = timingFacts(answer.usage?.timings);
  const model = modelNames.value.length > 1 && answer.model ? [{ label: "model", value: answer.model }] : [];
  return (
    <div class="figures">
      <Facts label="Figures of this answer" facts={[...model, ...factsOf(answer)]} />
      {timings.length > 0 && (
        <details>
          <summary>Timings of the server</summary>
          <Facts label="Timings of the server" facts={timings} />
        </details>
      )}
    </div>
  );
}

function Facts({ label, facts }: { label: string; facts: Fact[] }) {
  if (facts.length === 0) return null;
  return (
    <ul aria-label={label}>
      {facts.map((fact) => (
        <li>
          <span class="label">{fact.label}</span> {fact.value}
        </li>
      ))}
    </ul>
  );
}
