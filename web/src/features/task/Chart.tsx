import { theme } from 'antd';
import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import { formatRate } from '../../shared/format';
import 'uplot/dist/uPlot.min.css';

export interface Series {
  label: string;
  values: (number | null)[];
  color: string;
  width?: number;
  points?: boolean;
}

interface ChartProps {
  title: string;
  steps: number[];
  series: Series[];
  format: (value: number) => string;
  stepLabel: string;
  /** Charts of one group show the same step under the pointer. */
  group: string;
}

const HEIGHT = 220;

function formatTick(value: number): string {
  return value !== 0 && Math.abs(value) < 0.01 ? formatRate(value) : String(Number(value.toPrecision(4)));
}

export function Chart({ title, steps, series, format, stepLabel, group }: ChartProps) {
  const { token } = theme.useToken();
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const formatRef = useRef(format);
  formatRef.current = format;
  // The plot is made anew only when its look changes; new points are handed to it.
  const look = JSON.stringify([title, stepLabel, group, series.map(({ values: _values, ...rest }) => rest)]);
  const data = [steps, ...series.map(({ values }) => values)] as uPlot.AlignedData;
  const dataRef = useRef(data);
  dataRef.current = data;

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const [, , , drawn] = JSON.parse(look) as [string, string, string, Omit<Series, 'values'>[]];
    const axis = {
      stroke: token.colorTextSecondary,
      font: `12px ${token.fontFamily}`,
      grid: { stroke: token.colorSplit, width: 1 },
      ticks: { show: false },
    };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        cursor: { sync: { key: group }, points: { size: 7 } },
        scales: { x: { time: false } },
        legend: { live: true },
        series: [
          { label: stepLabel },
          ...drawn.map(({ label, color, width, points }) => ({
            label,
            stroke: color,
            width: width ?? 1.5,
            spanGaps: true,
            points: { show: points ?? false, size: 6, fill: color },
            value: (_plot: uPlot, value: number | null) => (value === null ? '–' : formatRef.current(value)),
          })),
        ],
        axes: [
          { ...axis, size: 32 },
          { ...axis, size: 52, values: (_plot, ticks) => ticks.map(formatTick) },
        ],
      },
      dataRef.current,
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [look, group, stepLabel, token]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `data` is built anew from these on every render
  useEffect(() => {
    plot.current?.setData(data);
  }, [steps, series]);

  return (
    <figure className="chart" data-testid="chart" data-points={steps.length}>
      <figcaption>{title}</figcaption>
      <div ref={host} className="chart-host" />
    </figure>
  );
}
