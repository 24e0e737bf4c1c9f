/** What a chart draws: a column of values per line, and what is said of it in words. Pure. */

export type Column = (number | null)[];

export const LEAST_SHOWN_S = 60;

/** Each column on top of those before it. A moment without any value stays empty; where only some are known, they count. */
export function stacked(columns: Column[]): Column[] {
  const sums = (columns[0] ?? []).map((_, i) => (columns.some((column) => column[i] != null) ? 0 : null));
  return columns.map((column) => column.map((value, i) => add(sums, i, value)));
}

function add(sums: Column, i: number, value: number | null): number | null {
  const sum = sums[i];
  return sum == null ? null : (sums[i] = sum + (value ?? 0));
}

/** From when to when a chart goes: a minute at least, so that the first points are no wide step. */
export function timeRange(times: readonly number[]): [number, number] {
  const now = times.at(-1) ?? 0;
  return [Math.min(times[0] ?? now, now - LEAST_SHOWN_S), now];
}

export function highest(column: Column): number | null {
  return column.reduce((most, value) => (value === null ? most : Math.max(most ?? value, value)), null);
}

/** "generated 220, at most 340; prompt –": of all that is shown. */
export function inWords(names: string[], columns: Column[], format: (value: number | null) => string): string {
  return names
    .map((name, i) => {
      const [last, most] = [columns[i]!.at(-1) ?? null, highest(columns[i]!)];
      return `${name} ${format(last)}${most === null ? "" : `, at most ${format(most)}`}`;
    })
    .join("; ");
}
