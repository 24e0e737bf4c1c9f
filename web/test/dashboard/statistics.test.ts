import { describe, expect, it } from "vitest";

import { figuresOf } from "../../src/dashboard/figures";
import { Scrape, type Buckets } from "../../src/dashboard/scrape";
import { bucketGrowth, growth, mean, quantile, rate, share } from "../../src/dashboard/statistics";

const BUCKETS: Buckets = [[0.1, 10], [0.5, 60], [1, 90], [Infinity, 100]];

describe("quantiles", () => {
  it("are linear inside a bucket", () => {
    expect(quantile(0.1, BUCKETS)).toBeCloseTo(0.1);
    expect(quantile(0.35, BUCKETS)).toBeCloseTo(0.3);
    expect(quantile(0.75, BUCKETS)).toBeCloseTo(0.75);
  });

  it("end at the last finite bound", () => expect(quantile(0.99, BUCKETS)).toBe(1));

  it("are unknown where nothing came", () => {
    expect(quantile(0.5, [])).toBeNull();
    expect(quantile(0.5, [[1, 0], [Infinity, 0]])).toBeNull();
  });

  it("never fall as the share rises, and lie within the bounds", () => {
    for (let seed = 1; seed < 200; seed++) {
      let [count, state] = [0, seed];
      const buckets = [0.001, 0.01, 0.1, 1, Infinity].map((bound): [number, number] => {
        state = (state * 16807) % 2147483647;
        count += state % 7;
        return [bound, count];
      });
      const found = [0.01, 0.5, 0.9, 0.99, 1].map((q) => quantile(q, buckets));
      if (count === 0) continue;
      for (const value of found) expect(value! >= 0 && value! <= 1).toBe(true);
      expect([...found].sort((a, b) => a! - b!)).toEqual(found);
    }
  });
});

describe("differences", () => {
  it("begin anew with another server", () => {
    expect(growth(10, 15)).toBe(5);
    expect(growth(10, 3)).toBe(3);
    expect(bucketGrowth([[1, 5], [Infinity, 9]], [[1, 7], [Infinity, 12]])).toEqual([[1, 2], [Infinity, 3]]);
    expect(bucketGrowth([[1, 5], [Infinity, 9]], [[1, 1], [Infinity, 2]])).toEqual([[1, 1], [Infinity, 2]]);
  });

  it("are rates, means and shares", () => {
    const before = new Scrape("kvik:tokens_total 10\nkvik:hits_total 1\nkvik:step_sum 1\nkvik:step_count 4", 100);
    const now = new Scrape("kvik:tokens_total 30\nkvik:hits_total 6\nkvik:step_sum 3\nkvik:step_count 8", 104);
    expect(rate("tokens_total", before, now)).toBe(5);
    expect(share("hits_total", "tokens_total", before, now)).toBe(0.25);
    expect(mean("step", before, now)).toBe(0.5);
    expect(rate("nothing", before, now)).toBeNull();
    expect(rate("tokens_total", now, now)).toBeNull();
    expect(share("hits_total", "tokens_total", now, now)).toBeNull();
    expect(mean("step", now, now)).toBeNull();
  });
});

describe("prompt tokens per second", () => {
  const name = "kvik:prompt_tokens_by_source_total";
  const text = (all: number, computed: number, cached: number) =>
    `kvik:prompt_tokens_total ${all}\n${name}{source="local_compute"} ${computed}\n${name}{source="local_cache_hit"} ${cached}`;

  it("are those that were computed", () => {
    const [before, now] = [new Scrape(text(0, 0, 0), 0), new Scrape(text(100, 40, 60), 4)];
    expect(figuresOf(now, before, before, 1).promptRate).toBe(10);
  });

  it("are all where the server does not tell", () => {
    const [before, now] = [new Scrape("vllm:prompt_tokens_total 0", 0), new Scrape("vllm:prompt_tokens_total 100", 4)];
    expect(figuresOf(now, before, before, 1).promptRate).toBe(25);
  });
});

describe("a scrape", () => {
  it("passes over what is no number", () => {
    const scrape = new Scrape('kvik:x{engine="0"} NaN\nkvik:x{engine="1"} 2\nprocess_start_time_seconds 7', 0);
    expect(scrape.value("x")).toBe(2);
    expect(scrape.value("process_start_time_seconds")).toBe(7);
  });

  it("is read under either prefix, and one of them counts", () => {
    const text = (prefix: string) => `${prefix}num_requests_running{engine="0"} 3\n`;
    for (const served of [text("kvik:"), text("vllm:"), text("kvik:") + text("vllm:")])
      expect(new Scrape(served, 0).value("num_requests_running")).toBe(3);
  });

  it("sums over labels", () => {
    const scrape = new Scrape('kvik:x{engine="0",part="a"} 1\nkvik:x{engine="1",part="a"} 2\nkvik:x{engine="1",part="b"} 4', 0);
    expect(scrape.value("x")).toBe(7);
    expect(scrape.value("x", { part: "a" })).toBe(3);
    expect(scrape.by("x", "engine")).toEqual({ "0": 1, "1": 6 });
  });

  it("of a server that has done nothing has no rates and no percentiles", () => {
    const empty = new Scrape("", 0);
    const figures = figuresOf(empty, empty, empty, 1);
    expect([figures.running, figures.generationRate, figures.hitRate]).toEqual([null, null, null]);
    expect(figures.ttft).toEqual([null, null, null]);
  });
});
