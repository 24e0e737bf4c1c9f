import { describe, expect, it } from "vitest";

import type { StartPhase } from "../../src/api/server_state";
import { bytes, count, percent, seconds } from "../../src/dashboard/format";
import { piecesOf, type Plan } from "../../src/dashboard/memory";
import { barsOf } from "../../src/dashboard/waterfall";

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

  it("is empty before the first phase", () => expect(barsOf([], 0)).toEqual([]));
});

describe("memory", () => {
  it("is all accounted for", () => {
    const plan = {
      device: { total_bytes: 100 },
      memory: { weights_bytes: 30, activations_bytes: 5, graphs_bytes: 1, adapters_bytes: 1 },
      kv_cache: { pool_bytes: 50 },
    } as Plan;
    const pieces = piecesOf(plan);
    expect(pieces.reduce((sum, piece) => sum + piece.bytes, 0)).toBe(100);
    expect(pieces.at(-1)).toEqual({ name: "Left to others", bytes: 13 });
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
