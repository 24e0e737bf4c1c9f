/** One uPlot: how its axes, lines and cursor look. Knows no signal. */
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { timeRange } from "./columns";
import { colourOf, fadedColourOf } from "./palette";

export interface PlotOptions {
  names: string[];
  format: (value: number | null) => string;
  /** What the axis reaches at least. */
  least: number;
  isStacked: boolean;
  /** Index of the moment below the cursor; null: the cursor is elsewhere. */
  onCursor: (index: number | null) => void;
}

export const HEIGHT = 150;
/** Lines are told apart without their colours, too. */
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
/** The charts of a page show the same moment. */
const SYNC = { key: "kvik", setSeries: false };

export function makePlot(place: HTMLElement, options: PlotOptions): uPlot {
  const { names, format, least, isStacked, onCursor } = options;
  const lines = names.map((name, i) => (isStacked ? areaOf(name, i) : lineOf(name, i)));
  return new uPlot(
    {
      width: place.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 26, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: SYNC },
      scales: {
        x: { time: true, range: (plot) => timeRange((plot.data?.[0] ?? []) as number[]) },
        y: { range: (_, __, most) => [0, Math.max(least, (most ?? 0) * 1.1) || 1] },
      },
      axes: [timeAxis(), { ...axis(), size: 56, space: 30, values: (_, values) => values.map(format) }],
      series: [{}, ...lines],
      bands: isStacked ? bandsBetween(names.length) : [],
      hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)] },
    },
    [[], ...names.map(() => [])] as unknown as uPlot.AlignedData,
    place,
  );
}

export function timeText(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

function lineOf(label: string, index: number): uPlot.Series {
  const points = { show: false };
  return { label, stroke: () => colourOf(seriesColour(index)), width: 1.75, dash: DASHES[index % 4], points };
}

function areaOf(label: string, index: number): uPlot.Series {
  const token = seriesColour(index);
  const points = { show: false };
  return { label, stroke: () => colourOf(token), fill: () => fadedColourOf(token, 0.25), width: 1, points };
}

/** An area ends at the one below it. */
function bandsBetween(count: number): uPlot.Band[] {
  return Array.from({ length: count - 1 }, (_, i) => ({ series: [i + 2, i + 1] }));
}

export function seriesColour(index: number): string {
  return `--series-${index + 1}`;
}

export function dashOf(index: number): string {
  return (DASHES[index % 4] ?? []).join(" ");
}

function timeAxis(): uPlot.Axis {
  return { ...axis(), size: 24, space: 70, values: (_, times) => times.map(timeText) };
}

function axis(): uPlot.Axis {
  return {
    stroke: () => colourOf("--text-quiet"),
    font: "11px system-ui",
    gap: 4,
    grid: { stroke: () => colourOf("--line"), width: 0.5 },
    ticks: { show: false },
  };
}
