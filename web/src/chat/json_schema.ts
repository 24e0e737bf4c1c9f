/** The JSON schema box: what is wrong with the text in it, and the `response_format` made of it. Pure. */
import { faultIn, type Fault } from "./json_fault";

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];

export const EXAMPLE_SCHEMA = `{
  "type": "object",
  "properties": {
    "name": { "type": "string" },
    "age": { "type": "integer" }
  },
  "required": ["name", "age"],
  "additionalProperties": false
}`;

/** What is wrong as far as it shows without the server, or null. */
export function schemaProblem(text: string): string | null {
  if (!text.trim()) return "The schema is empty: write one, or turn it off.";
  const fault = faultIn(text);
  if (fault) return `The schema is not JSON: ${wordsOf(fault)}`;
  const schema: unknown = JSON.parse(text);
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
    return 'The schema must be a JSON object, for example {"type": "object"}.';
  }
  return typeProblem((schema as { type?: unknown }).type);
}

function typeProblem(type: unknown): string | null {
  const unknown = [type].flat().find((name) => name !== undefined && !TYPES.includes(name as string));
  return unknown === undefined ? null : `"type" must be one of ${TYPES.join(", ")}; it is ${JSON.stringify(unknown)}.`;
}

function wordsOf({ line, column, expected, found }: Fault): string {
  return `line ${line}, column ${column}: expected ${expected}, found ${found || "the end"}.`;
}

/** Of a text that has no problem. */
export function responseFormat(text: string): object {
  const schema = JSON.parse(text) as { title?: unknown };
  const title = typeof schema.title === "string" ? schema.title.replace(/[^A-Za-z0-9_-]+/g, "_").slice(0, 64) : "";
  return { type: "json_schema", json_schema: { name: title || "answer", schema } };
}
