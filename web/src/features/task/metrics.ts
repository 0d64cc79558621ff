import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef } from 'react';
import { api } from '../../api/client';
import { useLive } from '../../api/live';
import { keys } from '../../api/queries';
import type { MetricPoint, Metrics, ProgressView } from '../../api/types';

/** More points than a chart has pixels help nobody. */
const MAX_POINTS = 4000;
/** Progress skips steps and does not bring the evaluations: after this long the curve is fetched again. */
const REFRESH_MS = 10_000;

/** The curve with one reading more; the same object when the reading brings nothing new. */
export function withProgress(metrics: Metrics, progress: ProgressView): Metrics {
  const last = metrics.train.at(-1);
  if (progress.loss === null || (last && progress.step <= last.step)) return metrics;
  const point: MetricPoint = { ...progress, loss: progress.loss };
  const train = [...metrics.train, point];
  return { ...metrics, train: train.length > MAX_POINTS ? thinned(train) : train };
}

/** Every second point, the newest among them. */
function thinned(train: MetricPoint[]): MetricPoint[] {
  const odd = (train.length - 1) % 2;
  return train.filter((_, index) => index % 2 === odd);
}

/** The training's curves, growing while it runs. */
export function useMetrics(taskId: string) {
  const client = useQueryClient();
  const { listen } = useLive();
  const fetchedAt = useRef(0);
  const query = useQuery({
    queryKey: keys.metrics(taskId),
    queryFn: () => {
      fetchedAt.current = Date.now();
      return api.metrics(taskId);
    },
    // What came in while nobody looked is missing from what is kept.
    refetchOnMount: 'always',
  });

  useEffect(
    () =>
      listen((event) => {
        const ours =
          event.type === 'progress' ? event.task_id === taskId : event.type === 'task' && event.task.task_id === taskId;
        if (!ours) return;
        if (event.type === 'progress') {
          client.setQueryData<Metrics>(keys.metrics(taskId), (now) => now && withProgress(now, event.progress));
        }
        if (event.type === 'task' || Date.now() - fetchedAt.current > REFRESH_MS) {
          void client.invalidateQueries({ queryKey: keys.metrics(taskId) });
        }
      }),
    [client, listen, taskId],
  );
  return query;
}

/** Mean over the neighbours on both sides: unlike a running average, it does not lag behind a falling curve. */
export function smooth(values: number[], radius: number): number[] {
  const sums = [0];
  for (const value of values) sums.push(sums[sums.length - 1] + value);
  return values.map((_, index) => {
    // The window shrinks evenly towards the ends.
    const reach = Math.min(radius, index, values.length - 1 - index);
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1);
  });
}
