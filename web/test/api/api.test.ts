import { afterEach, describe, expect, it, vi } from "vitest";

import { apiUrl } from "../../src/api/address";
import { ApiError, ask } from "../../src/api/client";
import { apiKey, declineKey, keyWanted, useKey } from "../../src/api/key";
import { eventsOf } from "../../src/api/sse";

async function eventsIn(chunks: Uint8Array[]): Promise<string[]> {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
  const found: string[] = [];
  for await (const event of eventsOf(body)) found.push(event);
  return found;
}

describe("addresses", () => {
  it("are beside the page, below whatever prefix", () => {
    expect(apiUrl("/v1/models", "http://h:1/ui/")).toBe("http://h:1/v1/models");
    expect(apiUrl("/v1/models", "https://h/a/b/ui/#server")).toBe("https://h/a/b/v1/models");
    expect(apiUrl("/startup", "http://localhost:5173/")).toBe("http://localhost:5173/startup");
  });
});

describe("events", () => {
  it("come whole, wherever the stream is cut", async () => {
    const bytes = new TextEncoder().encode('data: {"a": "ü€🙂"}\n\n: ping\n\ndata: two\ndata: lines\r\n\r\ndata:[DONE]\n\n');
    const whole = ['{"a": "ü€🙂"}', "two\nlines", "[DONE]"];
    for (let cut = 0; cut <= bytes.length; cut++)
      expect(await eventsIn([bytes.slice(0, cut), bytes.slice(cut)])).toEqual(whole);
    expect(await eventsIn([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(whole);
  });

  it("that never end are none", async () => expect(await eventsIn([new TextEncoder().encode("data: cut")])).toEqual([]));
});

describe("requests", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    useKey("");
  });

  function answering(response: Response | Error) {
    const fake = vi.fn(async (_: string, init?: RequestInit) => {
      void init;
      if (response instanceof Error) throw response;
      return response;
    });
    vi.stubGlobal("fetch", fake);
    return fake;
  }

  it("carry the key, and say when one is wanted", async () => {
    const refused = answering(Response.json({ error: { message: "a key, please" } }, { status: 401 }));
    await expect(ask("/startup")).rejects.toMatchObject({ status: 401, message: "a key, please" });
    expect(keyWanted.value).toBe("a key, please");
    expect(refused.mock.calls[0]![1]!.headers).toEqual({});
    useKey("sesame");
    expect([keyWanted.value, apiKey.value]).toEqual([null, "sesame"]);
    const taken = answering(Response.json({}));
    await ask("/startup", { isPoll: true });
    expect(taken.mock.calls[0]![1]!.headers).toEqual({ Authorization: "Bearer sesame", "x-kvik-poll": "1" });
  });

  it("asked again and again do not insist on a key", async () => {
    answering(Response.json({}, { status: 401 }));
    await expect(ask("/startup", { isPoll: true })).rejects.toThrow();
    expect(keyWanted.value).not.toBeNull();
    declineKey();
    answering(Response.json({}, { status: 401 }));
    await expect(ask("/startup", { isPoll: true })).rejects.toThrow();
    expect(keyWanted.value).toBeNull();
    answering(Response.json({ error: { message: "still" } }, { status: 401 }));
    await expect(ask("/v1/chat/completions", { method: "POST", body: {} })).rejects.toThrow();
    expect(keyWanted.value).toBe("still");
  });

  it("tell what was refused, and when to come again", async () => {
    answering(new Response('{"error": {"message": "full"}}', { status: 429, headers: { "Retry-After": "7" } }));
    await expect(ask("/x")).rejects.toMatchObject({ status: 429, message: "full", retryAfterS: 7 });
    answering(new Response("plain words", { status: 500 }));
    await expect(ask("/x")).rejects.toMatchObject({ status: 500, message: "plain words", retryAfterS: null });
  });

  it("that reach nobody have status 0", async () => {
    answering(new TypeError("failed to fetch"));
    await expect(ask("/x")).rejects.toEqual(new ApiError(0, "The server does not answer."));
  });
});
