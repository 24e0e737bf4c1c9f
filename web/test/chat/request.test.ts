/** The body of a request, and the code made of it. */
import { execFileSync } from "node:child_process";

import { describe, expect, it } from "vitest";

import { newAnswer, newConversation, withAnswer, withQuestion } from "../../src/chat/conversation";
import { chatBody, measured } from "../../src/chat/request";
import { NO_SETTINGS, type Settings } from "../../src/chat/settings";
import { curlSnippet, pythonLiteral, pythonSnippet, shellQuoted } from "../../src/chat/snippet";

const SERVED = ["base", "adapter"];

function asked(settings: Partial<Settings> = {}, system = "") {
  return { ...withQuestion(newConversation({ ...NO_SETTINGS, ...settings }), "hi"), system };
}

describe("the body", () => {
  it("holds nothing that was not asked for", () => {
    const messages = [{ role: "user", content: "hi" }];
    expect(chatBody(asked(), SERVED)).toEqual({ model: "base", messages, stream: true });
  });

  it("holds what was", () => {
    const settings = {
      model: "adapter", numbers: { temperature: "0.5", top_k: "3" }, stop: "END", logprobs: true,
      useSchema: true, schema: "{}",
    };
    expect(chatBody(asked(settings, "Be brief."), SERVED)).toEqual({
      model: "adapter",
      messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "hi" }],
      temperature: 0.5, top_k: 3, stop: ["END"], logprobs: true, top_logprobs: 5,
      response_format: { type: "json_schema", json_schema: { name: "answer", schema: {} } },
      stream: true,
    });
  });

  it("asks for the first model where the chosen one is not served any more, and for none before any is known", () => {
    expect(chatBody(asked({ model: "gone" }), SERVED).model).toBe("base");
    expect(chatBody(asked(), [])).not.toHaveProperty("model");
  });

  it("ends with the draft, or else with the last question; answers without text are left out", () => {
    const failed = withAnswer(asked(), { ...newAnswer(0), end: "failed", error: "no" });
    const answered = withAnswer(asked(), { ...newAnswer(0), end: "stopped", text: "He" });
    const last = (body: ReturnType<typeof chatBody>) => body.messages.map((message) => message.content);
    expect(last(chatBody(answered, SERVED))).toEqual(["hi"]);
    expect(last(chatBody(answered, SERVED, "more"))).toEqual(["hi", "He", "more"]);
    expect(last(chatBody(failed, SERVED, "more"))).toEqual(["hi", "more"]);
  });

  it("is sent with what the page measures by", () => {
    expect(measured(chatBody(asked(), SERVED))).toMatchObject({
      stream_options: { include_usage: true }, return_timings: true,
    });
  });
});

const NASTY = `it's "quoted" $HOME \`id\` \\n !x\n\u{1F600} 'a' ''`;

describe("the command", () => {
  it("gives the shell exactly what was meant", () => {
    expect(execFileSync("sh", ["-c", `printf %s ${shellQuoted(NASTY)}`]).toString()).toBe(NASTY);
  });

  it("sends the body as it is, past a shell", () => {
    const body = chatBody(withQuestion(newConversation(), NASTY), SERVED);
    const command = curlSnippet("http://host/it's/v1", body, true);
    const script = `curl() { printf '%s\\0' "$@"; }\nAPI_KEY=secret\n${command}`;
    const words = execFileSync("sh", ["-c", script]).toString().split("\0").slice(0, -1);
    expect(words.slice(0, -1)).toEqual([
      "-N", "http://host/it's/v1/chat/completions", "-H", "Content-Type: application/json",
      "-H", "Authorization: Bearer secret", "-d",
    ]);
    expect(JSON.parse(words.at(-1)!)).toEqual(body);
  });

  it("names a key only where one is needed", () => {
    expect(curlSnippet("http://h/v1", chatBody(asked(), SERVED), false)).not.toContain("API_KEY");
  });
});

describe("the Python code", () => {
  it("gives what the package does not know in extra_body", () => {
    const settings = { numbers: { top_k: "3", seed: "1" }, logprobs: true };
    const code = pythonSnippet("http://h/v1", chatBody(asked(settings), SERVED));
    expect(code).toContain('    messages=[{"role": "user", "content": "hi"}],\n    seed=1,\n    logprobs=True,\n');
    expect(code).toContain('    extra_body={"top_k": 3},\n)');
    expect(code).toContain('base_url="http://h/v1"');
  });

  it("spreads what is long over lines", () => {
    expect(pythonLiteral([true, null, "x"])).toBe('[True, None, "x"]');
    expect(pythonLiteral({ a: "y".repeat(90) })).toBe(`{\n    "a": "${"y".repeat(90)}",\n}`);
  });

  it("means the same to Python", () => {
    const text = [NASTY, "\u0000\u001f\u2028"];
    const value = { text, list: [1, -0.5, 1e-9, true, null, {}], deep: { deep: ["z".repeat(100)] } };
    const script = `import json, sys; sys.stdout.write(json.dumps(${pythonLiteral(value)}))`;
    expect(JSON.parse(execFileSync("python3", ["-c", script]).toString())).toEqual(value);
  });
});
