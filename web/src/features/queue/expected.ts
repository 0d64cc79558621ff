import type { WaitView } from '../../api/types';

/** Nearer than this, and a clock time would only look exact. */
const SOON_MS = 60_000;

/** When a waiting task is expected to start: an ISO time, `soon`, or `null` where nobody can tell. */
export function expectedStart(wait: Pick<WaitView, 'starts_at'>, now: number): string | 'soon' | null {
  if (wait.starts_at === null) return null;
  return Date.parse(wait.starts_at) - now < SOON_MS ? 'soon' : wait.starts_at;
}
