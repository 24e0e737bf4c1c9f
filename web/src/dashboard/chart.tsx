/** Lines over the last minutes. Colours are the page's, and change with its theme. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { theme } from "../shell/theme";
import type { Figures } from "./figures";
import { history } from "./metrics";

export interface Line {
  name: string;
  of: (point: Figures) => number | null;
}

interface ChartProps {
  title: string;
  lines: Line[];
  format: (value: number | null | undefined) => string;
  /** What the axis reaches at least. */
  least?: number;
}

const HEIGHT = 150;
const LEAST_SHOWN_S = 60;

export function Chart({ title, lines, format, least }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    const made = (plot.current = new uPlot(options(place.current!, lines, format, least ?? 0), [[]], place.current!));
    const watch = new ResizeObserver(() => made.setSize({ width: place.current!.clientWidth, height: HEIGHT }));
    watch.observe(place.current!);
    return () => {
      watch.disconnect();
      made.destroy();
    };
  }, [theme.value]);
  const points = history.value;
  useEffect(() => {
    plot.current?.setData([points.map((p) => p.timeS), ...lines.map((line) => points.map(line.of))]);
    const now = points.at(-1)?.timeS ?? 0;
    plot.current?.setScale("x", { min: Math.min(points[0]?.timeS ?? 0, now - LEAST_SHOWN_S), max: now });
  }, [points, theme.value]);
  const last = points.at(-1);
  return (
    <section class="card chart" aria-label={title}>
      <h3>{title}</h3>
      <ul class="legend">
        {lines.map((line, i) => (
          <li>
            <span class={`swatch series-${i + 1}`} />
            {line.name}{" "}
            <b data-line={line.name} data-last={last ? (line.of(last) ?? "") : ""}>
              {format(last ? line.of(last) : null)}
            </b>
          </li>
        ))}
      </ul>
      <div ref={place} class="plot" aria-hidden="true" />
    </section>
  );
}

function options(place: HTMLElement, lines: Line[], format: ChartProps["format"], least: number): uPlot.Options {
  const axis = {
    stroke: colourOf(place, "--text-quiet"),
    font: "11px system-ui",
    gap: 4,
    grid: { stroke: colourOf(place, "--line"), width: 0.5 },
    ticks: { show: false },
  };
  return {
    width: place.clientWidth || 300,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.1) || 1] } },
    axes: [
      { ...axis, size: 22, space: 70, values: (_, times) => times.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB")) },
      { ...axis, size: 52, values: (_, values) => values.map((value) => format(value)) },
    ],
    series: [
      {},
      ...lines.map((line, i) => ({
        label: line.name,
        stroke: colourOf(place, `--series-${i + 1}`),
        width: 1.5,
        points: { show: false },
        spanGaps: true,
      })),
    ],
  };
}

/** A canvas knows no light-dark(): let the browser say which colour it is now. */
function colourOf(place: HTMLElement, token: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  place.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
