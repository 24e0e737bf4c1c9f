/** Controls: what is sent of them, and what is wrong with them. */
import { describe, expect, it } from "vitest";

import { schemaProblem, responseFormat } from "../../src/chat/json_schema";
import { NO_SETTINGS, numberProblem, numbersIn, numChanged, problemIn, stopStringsIn } from "../../src/chat/settings";

describe("numbers", () => {
  it.each(["", "  ", "0", "1", "0.7", ".5", "-2", "+1", "1e-3"])("takes %j", (typed) => {
    expect(numberProblem("temperature", typed)).toBeNull();
  });

  it.each(["x", "0,7", "1 2", "--1", "NaN", "Infinity", "0x10", "1e"])("refuses %j", (typed) => {
    expect(numberProblem("temperature", typed)).toContain("Temperature must be a number");
  });

  it.each(["1.5", "9007199254740993"])("refuses %j where a whole one is wanted", (typed) => {
    expect(numberProblem("seed", typed)).toBe("Seed must be a whole number.");
  });

  it("are sent only if they were given", () => {
    const settings = { ...NO_SETTINGS, numbers: { temperature: " 0 ", top_k: "", seed: "7" } };
    expect(numbersIn(settings)).toEqual({ temperature: 0, seed: 7 });
    expect(numChanged(settings)).toBe(2);
  });
});

describe("stop strings", () => {
  it("are lines; a backslash names what a line cannot hold", () => {
    expect(stopStringsIn("")).toEqual([]);
    expect(stopStringsIn("END\n\n a ")).toEqual(["END", " a "]);
    expect(stopStringsIn("\\n\\n\nC:\\\\new\n\\q")).toEqual(["\n\n", "C:\\new", "\\q"]);
  });
});

describe("the schema", () => {
  it("is not looked at while it is off", () => {
    expect(problemIn({ ...NO_SETTINGS, schema: "{" })).toBeNull();
    expect(problemIn({ ...NO_SETTINGS, schema: "{", useSchema: true })).toContain("The schema is not JSON");
  });

  it("that is broken is told with its line", () => {
    const problem = "The schema is not JSON: line 2, column 7: expected a value, found }.";
    expect(schemaProblem('{"type": "object",\n "x": }')).toBe(problem);
  });

  it.each([
    ["", "empty"], ["[1]", "must be a JSON object"], ["3", "must be a JSON object"], ['{"type": "text"}', '"text"'],
  ])("%j is refused", (text, words) => {
    expect(schemaProblem(text)).toContain(words);
  });

  it("may be any that the server could take", () => {
    expect(schemaProblem('{"type": ["string", "null"]}')).toBeNull();
    expect(schemaProblem('{"anyOf": []}')).toBeNull();
  });

  it("is named after its title, in characters that names may have", () => {
    expect(responseFormat('{"title": "A person!", "type": "object"}')).toEqual({
      type: "json_schema", json_schema: { name: "A_person_", schema: { title: "A person!", type: "object" } },
    });
    expect(responseFormat("{}")).toEqual({ type: "json_schema", json_schema: { name: "answer", schema: {} } });
  });
});
