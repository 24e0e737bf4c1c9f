/** Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/), as far as a page needs it. */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** All samples of a text; comments and lines that are none are left out. */
export function parseExposition(text: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    const sample = line && line[0] !== "#" ? parseLine(line) : null;
    return sample ? [sample] : [];
  });
}

function parseLine(line: string): Sample | null {
  const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*$/.exec(line);
  if (!found) return null;
  const value = numberOf(found[3]!);
  return value === null ? null : { name: found[1]!, labels: labelsOf(found[2] ?? ""), value };
}

function numberOf(text: string): number | null {
  if (/^[+-]?inf$/i.test(text)) return text[0] === "-" ? -Infinity : Infinity;
  if (/^nan$/i.test(text)) return NaN;
  const value = Number(text);
  return Number.isNaN(value) ? null : value;
}

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g))
    labels[name!] = value!.replace(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char));
  return labels;
}
