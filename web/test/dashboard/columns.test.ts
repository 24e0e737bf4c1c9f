import { describe, expect, it } from "vitest";

import { highest, inWords, stacked, timeRange, type Column } from "../../src/dashboard/columns";

describe("stacks", () => {
  it("put each column on those before it", () => {
    expect(stacked([[1, 2], [3, 4], [5, 6]])).toEqual([[1, 2], [4, 6], [9, 12]]);
  });

  it("take what is unknown for nothing, but leave a moment without any value empty", () => {
    expect(stacked([[1, null], [null, null], [2, null]])).toEqual([[1, null], [1, null], [3, null]]);
  });

  it("end at the sum, and never go down", () => {
    for (let seed = 1; seed < 100; seed++) {
      let state = seed;
      const next = (): number => (state = (state * 48271) % 2147483647) % 100;
      const columns: Column[] = [0, 1, 2, 3].map(() => Array.from({ length: 5 }, () => (next() < 20 ? null : next())));
      const sums = stacked(columns);
      for (let i = 0; i < 5; i++) {
        const known = columns.flatMap((column) => column[i] ?? []);
        expect(sums.at(-1)![i]).toBe(known.length ? known.reduce((sum, value) => sum + value, 0) : null);
        const heights = sums.map((column) => column[i] ?? 0);
        expect([...heights].sort((a, b) => a - b)).toEqual(heights);
      }
    }
  });

  it("of nothing are nothing", () => expect(stacked([])).toEqual([]));
});

describe("time", () => {
  it("is a minute at least", () => {
    expect(timeRange([100, 110])).toEqual([50, 110]);
    expect(timeRange([100, 390])).toEqual([100, 390]);
    expect(timeRange([])).toEqual([-60, 0]);
  });
});

describe("a chart in words", () => {
  const format = (value: number | null): string => (value === null ? "–" : `${value} ms`);

  it("has the last and the highest value of each line", () => {
    expect(inWords(["p50", "p99"], [[3, 1], [null, null]], format)).toBe("p50 1 ms, at most 3 ms; p99 –");
  });

  it("has no highest value where there is none", () => expect(highest([null, null])).toBeNull());
});
