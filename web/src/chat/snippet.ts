/** The present request as a command for a shell, and as Python with the openai package. Pure; never holds a key. */
import type { ChatBody } from "./request";
import { NUMBER_NAMES } from "./settings";

/** `base`: the address that ends in /v1. */
export function curlSnippet(base: string, body: ChatBody, needsKey: boolean): string {
  const lines = [`curl -N ${shellWord(`${base}/chat/completions`)}`, `  -H 'Content-Type: application/json'`];
  if (needsKey) lines.push('  -H "Authorization: Bearer $API_KEY"');
  lines.push(`  -d ${shellQuoted(JSON.stringify(body, null, 2))}`);
  return lines.join(" \\\n");
}

/** In single quotes a POSIX shell changes nothing; one inside them is put beside them. */
export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : shellQuoted(text);
}

/** What the package has no argument for goes into `extra_body`. */
const EXTRA = new Set<string>(["top_k", "min_p", "repetition_penalty"]);
const ARGUMENTS = [
  "model", "messages", ...NUMBER_NAMES, "stop", "response_format", "logprobs", "top_logprobs", "stream",
] as (keyof ChatBody)[];

export function pythonSnippet(base: string, body: ChatBody): string {
  const given = ARGUMENTS.filter((name) => body[name] !== undefined);
  const extra = given.filter((name) => EXTRA.has(name)).map((name) => [name, body[name]]);
  const lines = given.filter((name) => !EXTRA.has(name)).map((name) => `    ${name}=${pythonLiteral(body[name], 4)},`);
  if (extra.length) lines.push(`    extra_body=${pythonLiteral(Object.fromEntries(extra), 4)},`);
  return `import os

from openai import OpenAI

client = OpenAI(base_url=${pythonLiteral(base)}, api_key=os.environ.get("API_KEY", "none"))
stream = client.chat.completions.create(
${lines.join("\n")}
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`;
}

const LINE_CHARS = 88;

/** A value of JSON as Python writes it; what is too long for a line is spread over several. */
export function pythonLiteral(value: unknown, indent = 0): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  // The escapes of JSON mean the same in Python.
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const short = `${open}${itemsOf(value, indent).join(", ")}${close}`;
  if (indent + short.length <= LINE_CHARS && !short.includes("\n")) return short;
  const pad = " ".repeat(indent + 4);
  const lines = itemsOf(value, indent + 4).map((item) => `${pad}${item},`);
  return [open, ...lines, " ".repeat(indent) + close].join("\n");
}

function itemsOf(value: object, indent: number): string[] {
  if (Array.isArray(value)) return value.map((item) => pythonLiteral(item, indent));
  return Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${pythonLiteral(item, indent)}`);
}
