/** Where a text stops being JSON, and what would be right there: browsers tell it in many ways, or not at all. */

export interface Fault {
  line: number;
  column: number;
  expected: string;
  /** What stands there; empty at the end of the text. */
  found: string;
}

const SIGN = /([{}[\],:])/;
const STRING = /("(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")/;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/;
const TOKEN = new RegExp([SIGN, STRING, NUMBER, /true|false|null/].map((part) => part.source).join("|"), "y");
const SPACE = /[ \t\n\r]*/y;

/** What may come next, in words that an error can use. */
const VALUE = "a value";
const ITEM = "a value or ]";
const KEY = "a name in double quotes";
const FIRST_KEY = "a name in double quotes or }";
const COLON = ":";
const AFTER_ITEM = ", or ]";
const AFTER_MEMBER = ", or }";
const END = "nothing more";

/** null for a text that is JSON. */
export function faultIn(text: string): Fault | null {
  const open: string[] = [];
  let expected = VALUE;
  for (let at = after(SPACE, text, 0); at < text.length; ) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    const next = match && following(expected, match, open);
    if (!next) return faultAt(text, at, expected);
    expected = next;
    at = after(SPACE, text, TOKEN.lastIndex);
  }
  return expected === END ? null : faultAt(text, text.length, expected);
}

/** What may follow `match` where `expected` was; null: it may not stand here. Keeps `open`, the brackets around. */
function following(expected: string, [token, sign, string]: RegExpExecArray, open: string[]): string | null {
  if (expected === COLON) return token === ":" ? VALUE : null;
  if (expected === KEY || expected === FIRST_KEY) {
    if (string) return COLON;
    return expected === FIRST_KEY && token === "}" ? closed(open) : null;
  }
  if (expected === VALUE || expected === ITEM) {
    if (token === "{" || token === "[") return opened(token, open);
    if (token === "]" && expected === ITEM) return closed(open);
    return sign ? null : afterValue(open);
  }
  if (token === ",") return expected === AFTER_ITEM ? VALUE : expected === AFTER_MEMBER ? KEY : null;
  return expected === `, or ${token}` ? closed(open) : null;
}

function opened(bracket: "{" | "[", open: string[]): string {
  open.push(bracket);
  return bracket === "{" ? FIRST_KEY : ITEM;
}

function closed(open: string[]): string {
  open.pop();
  return afterValue(open);
}

function afterValue(open: string[]): string {
  const around = open.at(-1);
  return around === "{" ? AFTER_MEMBER : around === "[" ? AFTER_ITEM : END;
}

function after(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  pattern.exec(text);
  return pattern.lastIndex;
}

function faultAt(text: string, at: number, expected: string): Fault {
  const before = text.slice(0, at).split("\n");
  const found = /^\S{1,12}/.exec(text.slice(at))?.[0] ?? "";
  return { line: before.length, column: before.at(-1)!.length + 1, expected, found };
}
