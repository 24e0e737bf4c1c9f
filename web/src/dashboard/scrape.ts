/** One answer of GET /metrics, asked for figures by their names without the prefix. */
import { parseExposition, type Sample } from "./exposition";

/** Cumulative counts by upper bound, in order; the last bound is Infinity. */
export type Buckets = [upperBound: number, count: number][];

const PREFIXES = ["kvik:", "vllm:"];

export class Scrape {
  private readonly byName = new Map<string, Sample[]>();

  /** `atS`: when it was asked for, in seconds on any clock that goes on. */
  constructor(
    text: string,
    readonly atS: number,
  ) {
    for (const sample of parseExposition(text)) {
      if (Number.isNaN(sample.value)) continue; // "unknown" would make every sum unknown
      const known = this.byName.get(sample.name);
      if (known) known.push(sample);
      else this.byName.set(sample.name, [sample]);
    }
  }

  /** The samples of a name, under whichever prefix is served; of a process, without one. */
  samples(name: string): Sample[] {
    for (const prefix of [...PREFIXES, ""]) {
      const found = this.byName.get(prefix + name);
      if (found) return found;
    }
    return [];
  }

  /** The sum over all samples that carry these labels; null: there is none. */
  value(name: string, labels: Record<string, string> = {}): number | null {
    const found = this.samples(name).filter((sample) => carries(sample, labels));
    return found.length ? found.reduce((sum, sample) => sum + sample.value, 0) : null;
  }

  /** Values by a label. */
  by(name: string, label: string): Record<string, number> {
    const sums: Record<string, number> = {};
    for (const { labels, value } of this.samples(name)) {
      const key = labels[label] ?? "";
      sums[key] = (sums[key] ?? 0) + value;
    }
    return sums;
  }

  buckets(name: string): Buckets {
    const counts = this.by(`${name}_bucket`, "le");
    return Object.entries(counts)
      .map(([bound, count]): [number, number] => [bound === "+Inf" ? Infinity : Number(bound), count])
      .sort(([a], [b]) => a - b);
  }
}

function carries(sample: Sample, labels: Record<string, string>): boolean {
  return Object.entries(labels).every(([name, value]) => sample.labels[name] === value);
}
