/** The edits of a conversation. */
import { describe, expect, it } from "vitest";

import {
  newAnswer, newConversation, titleOf, withAnswer, withEditedQuestion, withoutLastAnswer, withQuestion,
  type Conversation,
} from "../../src/chat/conversation";

function talk(...texts: string[]): Conversation {
  return texts.reduce(
    (one, text, i) => (i % 2 ? withAnswer(one, { ...newAnswer(0), text, end: "finished" }) : withQuestion(one, text)),
    newConversation(),
  );
}

const textsOf = (conversation: Conversation) => conversation.turns.map((turn) => turn.text);

describe("edits", () => {
  it("leave the record that they were given as it was", () => {
    const before = newConversation();
    withQuestion(before, "hi");
    expect(before.turns).toEqual([]);
  });

  it("of a question take back all that came after it", () => {
    const before = talk("one", "1", "two", "2", "three", "3");
    const after = withEditedQuestion(before, before.turns[2]!.id, "other");
    expect(textsOf(after)).toEqual(["one", "1", "other"]);
  });

  it("of what is no question change nothing", () => {
    const before = talk("one", "1");
    expect(withEditedQuestion(before, before.turns[1]!.id, "x")).toBe(before);
    expect(withEditedQuestion(before, "nobody", "x")).toBe(before);
  });

  it("take back the last answer, and nothing where none is yet", () => {
    expect(textsOf(withoutLastAnswer(talk("one", "1", "two", "2")))).toEqual(["one", "1", "two"]);
    expect(textsOf(withoutLastAnswer(talk("one", "1", "two")))).toEqual(["one", "1", "two"]);
  });

  it("give every turn an id of its own", () => {
    const ids = talk("a", "b", "c", "d").turns.map((turn) => turn.id);
    expect(new Set(ids).size).toBe(4);
  });
});

describe("the title", () => {
  it("is the name, else the first question in one line, else that it is new", () => {
    expect(titleOf(newConversation())).toBe("New conversation");
    expect(titleOf(talk("  Hello\n there "))).toBe("Hello there");
    expect(titleOf({ ...talk("Hello"), name: "Mine" })).toBe("Mine");
  });

  it("does not cut a character in two", () => {
    expect(titleOf(talk("😀".repeat(60)))).toBe(`${"😀".repeat(48)}…`);
  });
});
