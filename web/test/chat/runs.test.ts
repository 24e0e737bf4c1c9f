/** Asking and answering as a whole: a question in the book, a stream from a server, an answer in the book. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { connection, modelNames, startReport } from "../../src/api/server_state";
import { canAsk, erase, regenerate, resend, sendDraft, setDraft, setSettings, stop } from "../../src/chat/actions";
import { conversations, current, openNew, saveNow, takeBackRemoval } from "../../src/chat/book";
import type { Answer } from "../../src/chat/conversation";
import { runs } from "../../src/chat/runs";
import { NO_SETTINGS } from "../../src/chat/settings";
import { loadAll } from "../../src/chat/storage";

/** A server that says what it is told to, one stream per request. */
class Server {
  bodies: { messages: { role: string; content: string }[] }[] = [];
  #out: ReadableStreamDefaultController<Uint8Array> | null = null;
  refusal: Response | null = null;

  async fetch(_url: string, { body, signal }: { body: string; signal: AbortSignal }): Promise<Response> {
    this.bodies.push(JSON.parse(body));
    if (this.refusal) return this.refusal;
    const stream = new ReadableStream<Uint8Array>({ start: (controller) => void (this.#out = controller) });
    const out = this.#out!;
    signal.addEventListener("abort", () => out.error(new DOMException("stopped", "AbortError")));
    return new Response(stream);
  }
  say(...texts: string[]): void {
    for (const content of texts) this.#send(JSON.stringify({ model: "m", choices: [{ delta: { content } }] }));
  }
  end(): void {
    this.#send("[DONE]");
    this.#out!.close();
  }
  cut(): void {
    this.#out!.error(new TypeError("network error"));
  }
  #send(data: string): void {
    this.#out!.enqueue(new TextEncoder().encode(`data: ${data}\n\n`));
  }
}

let server: Server;

beforeEach(() => {
  server = new Server();
  vi.stubGlobal("fetch", server.fetch.bind(server));
  connection.value = "answered";
  startReport.value = { status: "ready", phase: null, elapsed_s: 1, estimated_s_left: null, phases: [], recoveries: [] };
  modelNames.value = ["m"];
  for (const { id } of conversations.value) erase(id);
  openNew();
  setSettings(current.value.id, NO_SETTINGS);
});
afterEach(() => vi.unstubAllGlobals());

function send(text: string): string {
  const { id } = current.value;
  setDraft(id, text);
  sendDraft(id);
  return id;
}

const asked = (count: number) => vi.waitFor(() => expect(server.bodies).toHaveLength(count));
const ended = () => vi.waitFor(() => expect(runs.value.size).toBe(0));
const turns = () => current.value.turns.map((turn) => turn.text);
const lastAnswer = () => current.value.turns.at(-1) as Answer;

async function exchange(question: string, answer: string): Promise<void> {
  const count = server.bodies.length;
  send(question);
  await asked(count + 1);
  server.say(answer);
  server.end();
  await ended();
}

describe("a question", () => {
  it("is answered, shown while it is, and both are kept", async () => {
    const id = send(" hi ");
    await asked(1);
    expect(canAsk.value).toBe(false);
    server.say("He", "llo");
    await vi.waitFor(() => expect(runs.value.get(id)!.shown.value.text).toBe("Hello"));
    server.end();
    await ended();
    expect(turns()).toEqual(["hi", "Hello"]);
    expect(lastAnswer()).toMatchObject({ end: "finished", model: "m" });
    saveNow();
    expect(loadAll(localStorage).map((one) => one.id)).toEqual([id]);
  });

  it("is not sent while the server is not ready, nor with settings that make no request", () => {
    startReport.value = { ...startReport.value!, status: "recovering" };
    const id = send("hi");
    startReport.value = { ...startReport.value!, status: "ready" };
    setSettings(id, { useSchema: true, schema: "{" });
    sendDraft(id);
    expect(server.bodies).toEqual([]);
    expect(turns()).toEqual([]);
  });

  it("can be asked again or otherwise; what came after it is gone", async () => {
    await exchange("one", "1");
    await exchange("two", "2");
    regenerate(current.value.id);
    await asked(3);
    expect(turns()).toEqual(["one", "1", "two"]);
    server.end();
    await ended();
    resend(current.value.id, current.value.turns[0]!.id, "uno");
    await asked(4);
    expect(server.bodies[3]!.messages).toEqual([{ role: "user", content: "uno" }]);
    server.end();
    await ended();
    expect(turns()).toEqual(["uno", ""]);
  });
});

describe("an answer", () => {
  it("that is stopped keeps what it has", async () => {
    const id = send("hi");
    await asked(1);
    server.say("Hel");
    await vi.waitFor(() => expect(runs.value.get(id)!.shown.value.text).toBe("Hel"));
    stop(id);
    await ended();
    expect(lastAnswer()).toMatchObject({ text: "Hel", end: "stopped", error: null });
  });

  it("that breaks off says so and keeps what it has", async () => {
    const id = send("hi");
    await asked(1);
    server.say("Hel");
    await vi.waitFor(() => expect(runs.value.get(id)!.shown.value.text).toBe("Hel"));
    server.cut();
    await ended();
    expect(lastAnswer()).toMatchObject({ text: "Hel", end: "failed" });
    expect(lastAnswer().error).toContain("connection was lost");
  });

  it("that is refused says what the server said", async () => {
    const headers = { "Retry-After": "5" };
    server.refusal = new Response('{"error": {"message": "too many requests wait"}}', { status: 429, headers });
    send("hi");
    await ended();
    expect(lastAnswer().error).toBe("too many requests wait (try again in 5 s)");
  });

  it("goes on while another conversation is open, and joins its own", async () => {
    const id = send("first");
    await asked(1);
    openNew();
    expect(canAsk.value).toBe(true);
    server.say("one");
    server.end();
    await ended();
    expect(turns()).toEqual([]);
    expect(conversations.value.find((one) => one.id === id)!.turns.at(-1)!.text).toBe("one");
  });

  it("of a conversation that is deleted is stopped, and does not bring it back", async () => {
    const id = send("hi");
    await asked(1);
    erase(id);
    await ended();
    expect(conversations.value).toEqual([]);
    takeBackRemoval();
    expect(current.value.id).toBe(id);
    expect(turns()).toEqual(["hi"]);
  });
});

describe("the book", () => {
  it("lists no conversation that is empty, and gives a new one the settings of the last", () => {
    setSettings(current.value.id, { logprobs: true });
    expect(conversations.value).toEqual([]);
    openNew();
    expect(current.value.settings.logprobs).toBe(true);
  });

  it("takes over what another tab keeps and deletes", () => {
    const key = "kvik.conversation.other";
    const text = JSON.stringify({ version: 1, id: "other", turns: [], name: "Theirs", changedMs: 1 });
    dispatchEvent(new StorageEvent("storage", { key, newValue: text }));
    expect(conversations.value.map((one) => one.name)).toEqual(["Theirs"]);
    dispatchEvent(new StorageEvent("storage", { key, newValue: null }));
    expect(conversations.value).toEqual([]);
  });
});
