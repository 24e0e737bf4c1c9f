/** The JSON schema box: what is wrong with the text in it, and the `response_format` made of it. Pure. */

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];

export const EXAMPLE_SCHEMA = `{
  "type": "object",
  "properties": {
    "name": { "type": "string" },
    "age": { "type": "integer" }
  },
  "required": ["name", "age"]
}`;

/** What is wrong as far as it shows without the server, or null. */
export function schemaProblem(text: string): string | null {
  if (!text.trim()) return "The schema is empty: write one, or turn it off.";
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    return `The schema is not JSON: ${placed((error as Error).message, text)}`;
  }
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
    return 'The schema must be a JSON object, for example {"type": "object"}.';
  }
  return typeProblem((schema as { type?: unknown }).type);
}

function typeProblem(type: unknown): string | null {
  const unknown = [type].flat().find((name) => name !== undefined && !TYPES.includes(name as string));
  return unknown === undefined ? null : `"type" must be one of ${TYPES.join(", ")}; it is ${JSON.stringify(unknown)}.`;
}

/** The browser's words, with the line and column where it only counts characters. */
function placed(message: string, text: string): string {
  const position = /at position (\d+)/.exec(message);
  if (!position || /line \d+/.test(message)) return message;
  const before = text.slice(0, Number(position[1])).split("\n");
  return message.replace(position[0], `at line ${before.length} column ${before.at(-1)!.length + 1}`);
}

/** Of a text that has no problem. */
export function responseFormat(text: string): object {
  const schema = JSON.parse(text) as { title?: unknown };
  const title = typeof schema.title === "string" ? schema.title.replace(/[^A-Za-z0-9_-]+/g, "_").slice(0, 64) : "";
  return { type: "json_schema", json_schema: { name: title || "answer", schema } };
}
