/** From a conversation to the body of POST /v1/chat/completions. Pure. */
import type { Conversation, Turn } from "./conversation";
import { responseFormat } from "./json_schema";
import { numbersIn, stopStringsIn, type NumberName } from "./settings";

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

export type ChatBody = Partial<Record<NumberName, number>> & {
  model?: string;
  messages: Message[];
  stop?: string[];
  response_format?: object;
  logprobs?: true;
  top_logprobs?: number;
  stream: true;
};

export const NUM_ALTERNATIVES = 5;

/**
 * What answers the last question, or `draft` if that is not empty. The settings must have no problem.
 * What the page asks for its own measures (`measured`) is not in it.
 */
export function chatBody(conversation: Conversation, served: string[], draft = ""): ChatBody {
  const { settings } = conversation;
  const stop = stopStringsIn(settings.stop);
  const model = modelOf(settings.model, served);
  return {
    ...(model && { model }),
    messages: messagesOf(conversation, draft),
    ...numbersIn(settings),
    ...(stop.length && { stop }),
    ...(settings.useSchema && { response_format: responseFormat(settings.schema) }),
    ...(settings.logprobs && { logprobs: true, top_logprobs: NUM_ALTERNATIVES }),
    stream: true,
  };
}

/** The body with what fills the line under an answer. */
export function measured(body: ChatBody): object {
  return { ...body, stream_options: { include_usage: true }, return_timings: true };
}

/** The chosen one while it is served, else the first. */
export function modelOf(chosen: string, served: string[]): string | undefined {
  return served.includes(chosen) ? chosen : served[0];
}

function messagesOf({ system, turns }: Conversation, draft: string): Message[] {
  const asked = draft ? turns : turns.slice(0, turns.findLastIndex((turn) => turn.role === "user") + 1);
  const messages = asked.filter(saysSomething).map(({ role, text }): Message => ({ role, content: text }));
  if (draft) messages.push({ role: "user", content: draft });
  return system.trim() ? [{ role: "system", content: system }, ...messages] : messages;
}

function saysSomething(turn: Turn): boolean {
  return turn.role === "user" || turn.text !== "";
}
