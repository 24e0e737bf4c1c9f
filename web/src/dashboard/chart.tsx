/** Lines over the last minutes, with their values now or below the cursor. Colours are the page's. */
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";

import { inWords, stacked, type Column } from "./columns";
import type { Figures } from "./figures";
import { history } from "./metrics";
import { paletteAge } from "./palette";
import { dashOf, HEIGHT, makePlot, seriesColour, timeText } from "./plot";

export interface Line {
  name: string;
  of: (point: Figures) => number | null;
}

interface ChartProps {
  title: string;
  /** What the figures are of, beside the title. */
  note?: string;
  lines: Line[];
  format: (value: number | null | undefined) => string;
  /** What the axis reaches at least. */
  least?: number;
  /** Parts of a whole: one upon the other. */
  isStacked?: boolean;
}

export function Chart({ title, note, lines, format, least = 0, isStacked = false }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const words = useId();
  const points = history.value;
  const columns = lines.map((line) => points.map(line.of));
  useEffect(() => {
    const names = lines.map((line) => line.name);
    const element = place.current!;
    const made = (plot.current = makePlot(element, { names, format, least, isStacked, onCursor: setCursor }));
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => {
    if (plot.current) draw(plot.current, points, columns, isStacked);
  }, [points]);
  useEffect(() => plot.current?.redraw(), [paletteAge.value]);
  const shown = cursor === null ? undefined : points[cursor];
  return (
    <section class="card chart" aria-label={title}>
      <h3>
        {title} <small>{shown ? timeText(shown.timeS) : note}</small>
      </h3>
      <Legend lines={lines} format={format} isStacked={isStacked} shown={shown} />
      <p id={words} class="visually-hidden">
        {inWords(lines.map((line) => line.name), columns, format)}
      </p>
      <div
        ref={place}
        class="plot"
        role="img"
        tabIndex={0}
        aria-label={`${title}, as a chart: arrow keys go through the last minutes`}
        aria-describedby={words}
        onKeyDown={(event) => plot.current && moveCursor(event, plot.current)}
        onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
      />
    </section>
  );
}

type LegendProps = Pick<ChartProps, "lines" | "format" | "isStacked"> & { shown: Figures | undefined };

/** `data-last` stays the newest value, whatever the cursor shows. */
function Legend({ lines, format, isStacked, shown }: LegendProps) {
  const last = history.value.at(-1);
  const told = shown ?? last;
  return (
    <ul class="legend">
      {lines.map((line, i) => (
        <li key={line.name}>
          <svg class={isStacked ? "stroke area" : "stroke"} width="18" height="8" aria-hidden="true">
            <line x2="18" y1="4" y2="4" stroke={`var(${seriesColour(i)})`} stroke-dasharray={isStacked ? "" : dashOf(i)} />
          </svg>
          {line.name}{" "}
          <b data-line={line.name} data-last={last ? (line.of(last) ?? "") : ""}>
            {format(told ? line.of(told) : null)}
          </b>
        </li>
      ))}
    </ul>
  );
}

function draw(plot: uPlot, points: Figures[], columns: Column[], isStacked: boolean): void {
  plot.setData([points.map((point) => point.timeS), ...(isStacked ? stacked(columns) : columns)]);
}

const STEPS: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };

function moveCursor(event: KeyboardEvent, plot: uPlot): void {
  const [step, last] = [STEPS[event.key], plot.data[0].length - 1];
  if (step === undefined || last < 0) return;
  event.preventDefault();
  const index = Math.min(last, Math.max(0, (plot.cursor.idx ?? last) + step));
  plot.setCursor({ left: plot.valToPos(plot.data[0][index]!, "x"), top: 10 });
}
