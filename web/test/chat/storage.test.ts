/** What is kept in the browser, also where the browser does not want to. */
import { beforeEach, describe, expect, it } from "vitest";

import { newAnswer, newConversation, withAnswer, withQuestion, type Conversation } from "../../src/chat/conversation";
import { NO_SETTINGS } from "../../src/chat/settings";
import { loadAll, parse, PREFIX, remove, save } from "../../src/chat/storage";

beforeEach(() => localStorage.clear());

function example(): Conversation {
  const tokens = [{ text: "hello", logprob: -1, top: [] }];
  const settings = { ...NO_SETTINGS, numbers: { top_k: "3" }, logprobs: true };
  const asked = withQuestion(newConversation(settings), "hi");
  const answered = withAnswer(asked, { ...newAnswer(0), text: "hello", end: "finished", tokens });
  return { ...answered, name: "Mine", system: "Be brief." };
}

/** Storage with room for `maxChars` in one entry. */
function small(maxChars: number): Storage {
  function setItem(key: string, value: string): void {
    if (value.length > maxChars) throw new DOMException("full", "QuotaExceededError");
    localStorage.setItem(key, value);
  }
  return { setItem } as unknown as Storage;
}

describe("storage", () => {
  it("gives back what was kept", () => {
    const one = example();
    expect(save(localStorage, one)).toBe("whole");
    expect(loadAll(localStorage)).toEqual([one]);
    remove(localStorage, one.id);
    expect(loadAll(localStorage)).toEqual([]);
  });

  it("leaves alone what it cannot read", () => {
    const foreign = { [`${PREFIX}a`]: "{", [`${PREFIX}b`]: '{"version": 99, "id": "b", "turns": []}', other: "x" };
    for (const [key, value] of Object.entries(foreign)) localStorage.setItem(key, value);
    save(localStorage, example());
    expect(loadAll(localStorage)).toHaveLength(1);
    for (const [key, value] of Object.entries(foreign)) expect(localStorage.getItem(key)).toBe(value);
  });

  it.each(["null", "3", "[]", '{"version":1}', '{"version":1,"id":3,"turns":[]}', '{"version":1,"id":"a","turns":{}}'])(
    "does not take %s for a conversation", (text) => {
      expect(parse(text)).toBeNull();
    },
  );

  it("fills in what is missing and drops turns that are none", () => {
    const roles = ["robot", "user", "assistant"].map((role) => ({ role, id: role, text: "hi" }));
    const settings = { numbers: { top_k: 4, seed: "1" } };
    const found = parse(JSON.stringify({ version: 1, id: "c", turns: [null, 3, {}, ...roles], settings }))!;
    expect(found.turns.map((turn) => turn.id)).toEqual(["user", "assistant"]);
    expect(found.turns[1]).toMatchObject({ end: "stopped", tokens: [], error: null });
    expect(found.settings.numbers).toEqual({ seed: "1" });
  });

  it("gives up probabilities first, then says that nothing is kept", () => {
    const one = example();
    const numChars = JSON.stringify(one).length;
    expect(save(small(numChars), one)).toBe("without probabilities");
    expect(loadAll(localStorage)[0]!.turns[1]).toMatchObject({ text: "hello", tokens: [] });
    expect(save(small(10), one)).toBe("not");
  });

  it("does without a storage that is refused", () => {
    const refused = new Proxy({}, { get: () => { throw new DOMException("denied", "SecurityError"); } }) as Storage;
    expect(loadAll(refused)).toEqual([]);
    expect(save(refused, example())).toBe("not");
    expect(() => remove(refused, "a")).not.toThrow();
  });
});
