/** Where a text stops being JSON. The browser's own parser has the last word on whether it is. */
import { describe, expect, it } from "vitest";

import { faultIn } from "../../src/chat/json_fault";

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe("a fault", () => {
  it.each([
    ["", 1, 1, "a value", ""],
    ["{\n  'a': 1}", 2, 3, "a name in double quotes or }", "'a':"],
    ['{"a" 1}', 1, 6, ":", "1}"],
    ['{"a": 1,}', 1, 9, "a name in double quotes", "}"],
    ['[1\n2]', 2, 1, ", or ]", "2]"],
    ['{"a": [1, 2}', 1, 12, ", or ]", "}"],
    ['{"a": 1', 1, 8, ", or }", ""],
    ["[01]", 1, 3, ", or ]", "1]"],
    ["{} {}", 1, 4, "nothing more", "{}"],
    ['"a\nb"', 1, 1, "a value", '"a'],
    ["[True]", 1, 2, "a value or ]", "True]"],
  ])("of %j is told with its place", (text, line, column, expected, found) => {
    expect(faultIn(text)).toEqual({ line, column, expected, found });
  });

  it("is found exactly where the browser finds one", () => {
    const whole = '{"a": [1, -2.5e+3, {"b\\u00e9\\n": null}, []], "c": {}, "d": true}';
    const inserts = ["", ",", "]", "}", "[", "{", '"', ":", "0", " ", "\\", "-", "n", "\t", "\u00a0"];
    for (let at = 0; at <= whole.length; at++) {
      for (const insert of inserts) {
        for (const numDropped of [0, 1, 2]) {
          const text = whole.slice(0, at) + insert + whole.slice(at + numDropped);
          expect(`${text} ${faultIn(text) === null}`).toBe(`${text} ${isJson(text)}`);
        }
      }
    }
  });
});
