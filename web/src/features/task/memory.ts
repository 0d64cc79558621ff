import type { TaskView } from '../../api/types';

/** What was expected, promised and measured of a task's memory, laid out on one scale. All in bytes. */
export interface MemoryComparison {
  scale: number;
  expected: { low: number; footprint: number; high: number } | null;
  /** What each device granted; `null`: a whole device, or nothing now. */
  grant: number | null;
  /** The most it ever held; `null`: not measured. */
  peak: number | null;
}

/** `null` where nothing is known. */
export function memoryComparison(task: TaskView): MemoryComparison | null {
  const { estimate, attempt, progress } = task;
  const expected = estimate && {
    low: estimate.footprint_low_bytes,
    footprint: estimate.footprint_bytes,
    high: estimate.footprint_high_bytes,
  };
  const granted = (attempt?.grants ?? []).map(({ bytes }) => bytes);
  const grant = granted.length > 0 ? (granted[0] ?? null) : (estimate?.grant_bytes ?? null);
  const peak = progress.peak_bytes;
  if (expected === null && peak === null) return null;
  const scale = Math.max(expected?.high ?? 0, grant ?? 0, peak ?? 0);
  return scale > 0 ? { scale: scale * 1.02, expected, grant, peak } : null;
}
