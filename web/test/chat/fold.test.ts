/** Chunks -> an answer, and the line under it. */
import { describe, expect, it } from "vitest";

import { alternativesOf, percent, stepOf, visible } from "../../src/chat/chances";
import { newAnswer, type Answer } from "../../src/chat/conversation";
import { fold, settle, type Chunk } from "../../src/chat/fold";
import { factsOf, inWords, timingFacts } from "../../src/chat/measure";

type Delta = NonNullable<NonNullable<Chunk["choices"]>[number]["delta"]>;

function folded(...chunks: Chunk[]): Answer {
  const answer = newAnswer(1000);
  chunks.forEach((chunk, i) => fold(answer, chunk, 1100 + 10 * i));
  return answer;
}

const says = (delta: Delta): Chunk => ({ choices: [{ delta }] });
const facts = (answer: Answer) => Object.fromEntries(factsOf(answer).map(({ label, value }) => [label, value]));

describe("folding", () => {
  it("joins texts, and times the first and last of them, not the opening", () => {
    const answer = folded({ model: "m", ...says({ content: "" }) }, says({ content: "He" }), says({ content: "llo" }));
    expect(answer).toMatchObject({ model: "m", text: "Hello", times: { sentMs: 1000, firstMs: 1110, lastMs: 1120 } });
  });

  it("keeps reasoning apart, under either of its names", () => {
    const answer = folded(says({ reasoning: "so " }), says({ reasoning_content: "then" }), says({ content: "4" }));
    expect(answer).toMatchObject({ reasoning: "so then", text: "4", times: { firstMs: 1100 } });
  });

  it("puts calls together by their index", () => {
    const answer = folded(
      says({ tool_calls: [{ index: 0, function: { name: "f", arguments: "" } }] }),
      says({ tool_calls: [{ index: 0, function: { arguments: '{"a":' } }] }),
      says({ tool_calls: [{ index: 0, function: { arguments: "1}" } }] }),
      says({ tool_calls: [{ index: 1, function: { name: "g", arguments: "{}" } }] }),
    );
    expect(answer.toolCalls).toEqual([{ name: "f", arguments: '{"a":1}' }, { name: "g", arguments: "{}" }]);
  });

  it("collects tokens with their alternatives", () => {
    const chosen = { token: "a", logprob: -0.123456 };
    const content = [{ ...chosen, top_logprobs: [chosen, { token: "b", logprob: -3 }] }];
    const answer = folded({ choices: [{ delta: { content: "a" }, logprobs: { content } }] });
    expect(answer.tokens).toEqual([{ text: "a", logprob: -0.1235, top: [["a", -0.1235], ["b", -3]] }]);
  });

  it("takes an error in the stream for the end of it", () => {
    const answer = folded(says({ content: "He" }), { error: { message: "the engine has died" } });
    settle(answer, true);
    expect(answer).toMatchObject({ text: "He", error: "the engine has died", end: "failed" });
  });

  it("knows an answer that ended from one that was cut off", () => {
    const whole = folded({ choices: [{ delta: {}, finish_reason: "stop" }] });
    const cut = folded(says({ content: "He" }));
    settle(whole, true);
    settle(cut, false);
    expect([whole.end, cut.end]).toEqual(["finished", "failed"]);
    expect(cut.error).toContain("before the answer did");
  });
});

describe("the figures", () => {
  const usage = { prompt_tokens: 12, completion_tokens: 3, prompt_tokens_details: { cached_tokens: 8 } };

  it("count tokens, the wait for the first, and the speed of the others", () => {
    const texts = ["a", "b", "c"].map((content) => says({ content }));
    expect(facts(folded(...texts, { choices: [], usage }))).toEqual({
      tokens: "12 in, 3 out", cached: "8", "first token": "100 ms", speed: "100 tokens/s",
    });
  });

  it("count pieces where the stream did not come to the server's own count", () => {
    const answer = { ...folded(says({ content: "a" }), says({ content: "b" })), end: "stopped" as const };
    expect(facts(answer)).toEqual({
      tokens: "about 2 out", "first token": "100 ms", speed: "100 tokens/s", ended: "stopped by you",
    });
  });

  it("say why an answer ended, unless it simply did", () => {
    expect(facts({ ...newAnswer(0), finishReason: "stop" })).toEqual({});
    expect(facts({ ...newAnswer(0), finishReason: "length" })).toEqual({ ended: "max tokens reached" });
    expect(facts({ ...newAnswer(0), end: "stopped" })).toEqual({ ended: "stopped by you" });
  });

  it("show what the server tells, whatever it is", () => {
    const timings = { queue_s: 0.0004, decode_s: 1.25, num_preemptions: 2, queued_for: "blocks", itl_ms: 8 };
    expect(timingFacts({ ...timings, cached: null, itls_s: [1, 2] })).toEqual([
      { label: "queue", value: "0.40 ms" }, { label: "decode", value: "1.25 s" }, { label: "preemptions", value: "2" },
      { label: "queued for", value: "blocks" }, { label: "itl", value: "8.0 ms" },
    ]);
    expect(timingFacts(undefined)).toEqual([]);
  });

  it.each([[0.0005, "0.50 ms"], [0.0421, "42 ms"], [1.5, "1.50 s"], [42.25, "42.3 s"], [360, "360 s"]])(
    "%s s is %s", (seconds, words) => {
      expect(inWords(seconds)).toBe(words);
    },
  );
});

describe("probabilities", () => {
  it("list the chosen token among the others, once", () => {
    const found = alternativesOf({ text: "b", logprob: -2, top: [["b", -2], ["a", -0.3]] });
    expect(found.map(({ text, isChosen }) => [text, isChosen])).toEqual([["a", false], ["b", true]]);
  });

  it.each([[0, 0], [-0.1, 0], [-0.5, 1], [-1, 2], [-2, 3], [-9999, 4]])(
    "of logarithm %s are of step %s", (logprob, step) => {
      expect(stepOf(logprob)).toBe(step);
    },
  );

  it.each([
    [1, "100 %"], [0.5, "50 %"], [0.4381, "43.8 %"], [0.00123, "0.12 %"], [1e-9, "<0.01 %"], [0.999999, ">99.99 %"],
    [0, "0 %"],
  ])("%s is %s", (probability, words) => {
    expect(percent(probability)).toBe(words);
  });

  it("of spaces can be seen", () => {
    expect(["\n ", " a", "", "a b", " "].map(visible)).toEqual(["⏎␣", "␣a", "(empty)", "a b", "␣"]);
  });
});
