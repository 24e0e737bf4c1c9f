import { describe, expect, it } from "vitest";

import type { StartPhase } from "../../src/api/server_state";
import { bytes, count, percent, seconds } from "../../src/dashboard/format";
import { piecesOf, type Plan } from "../../src/dashboard/memory";
import { barsOf, rateOf } from "../../src/dashboard/waterfall";

function phase(name: string, process: string, start_s: number, end_s: number | null): StartPhase {
  return { name, process, start_s, end_s, num_bytes: null, num_bytes_done: null };
}

describe("the waterfall", () => {
  it("puts each phase where it was", () => {
    const bars = barsOf([phase("b", "engine", 1, 3), phase("a", "api", 0, 1), phase("c", "api", 3, 4)], 4);
    expect(bars.map((bar) => [bar.phase.name, bar.left, bar.width])).toEqual([["a", 0, 25], ["b", 25, 50], ["c", 75, 25]]);
  });

  it("lets a phase in progress grow", () => {
    const phases = [phase("a", "api", 0, 2), phase("b", "engine", 2, null)];
    const [early, late] = [4, 8].map((now) => barsOf(phases, now)[1]!);
    expect([early!.isOpen, early!.seconds, late!.seconds]).toEqual([true, 2, 6]);
  });

  it("shows also what took no time", () => expect(barsOf([phase("a", "api", 0, 0), phase("b", "api", 0, 9)], 9)[0]!.width).toBeGreaterThan(0));

  it("keeps room for what is expected to come", () => {
    const [bar] = barsOf([phase("a", "api", 0, null)], 2, 6);
    expect([bar!.left, bar!.width]).toEqual([0, 25]);
  });

  it("is empty before the first phase", () => expect(barsOf([], 0)).toEqual([]));
});

describe("rates of phases", () => {
  const moved = { ...phase("load weights", "engine", 0, 2), num_bytes: 4000 };

  it("are of what was moved", () => expect(rateOf(moved, 2)).toBe(2000));

  it("are of what is done while it goes on", () => {
    expect(rateOf({ ...moved, end_s: null, num_bytes_done: 500 }, 1)).toBe(500);
    expect(rateOf({ ...moved, end_s: null }, 1)).toBeNull();
  });

  it("are not told of a moment", () => expect(rateOf(moved, 0.001)).toBeNull());
});

function planned(requested_bytes: number): Plan {
  return {
    device: { total_bytes: 100, requested_bytes },
    memory: { weights_bytes: 30, activations_bytes: 5, graphs_bytes: 1, adapters_bytes: 1 },
    kv_cache: { pool_bytes: 50, block_bytes: 2 },
  } as Plan;
}

describe("memory", () => {
  it("is all accounted for", () => {
    const pieces = piecesOf(planned(87));
    expect(pieces.reduce((sum, piece) => sum + piece.bytes, 0)).toBe(100);
    expect(pieces.at(-1)).toEqual({ kind: "rest", name: "Left to others", bytes: 13 });
  });

  it("tells what the server may still take from what it leaves to others", () => {
    expect(piecesOf(planned(95)).slice(-2).map((piece) => [piece.name, piece.bytes])).toEqual([
      ["Free of its share", 8],
      ["Left to others", 5],
    ]);
    expect(piecesOf(planned(88)).at(-1)!.bytes).toBe(13); // one byte is what rounding to blocks leaves
  });

  it("leaves out what takes nothing, and survives a plan that does not fit", () => {
    const plan = planned(80);
    plan.memory.graphs_bytes = 0;
    plan.memory.weights_bytes = 300;
    const pieces = piecesOf(plan);
    expect(pieces.map((piece) => piece.name)).not.toContain("Graphs");
    expect(pieces.at(-1)!.bytes).toBe(0);
  });
});

describe("numbers", () => {
  it("read well", () => {
    expect([0, 900, 1024, 5.5 * 2 ** 30, null].map(bytes)).toEqual(["0 B", "900 B", "1.00 KiB", "5.50 GiB", "–"]);
    expect([0, 5e-5, 0.0042, 0.34, 2.414, 42.5, 200, 15000].map(seconds)).toEqual([
      "0", "50 µs", "4.2 ms", "340 ms", "2.41 s", "42.5 s", "3 min 20 s", "4 h 10 min",
    ]);
    expect([0, 1.25, 1234567].map(count)).toEqual(["0", "1.3", "1,234,567"]);
    expect([0, 0.004, 0.5, 1].map(percent)).toEqual(["0 %", "0.4 %", "50 %", "100 %"]);
  });
});
