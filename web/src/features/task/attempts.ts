import type { JournalEntry } from '../../api/types';

/** One stay of a task on its GPUs. */
export interface Attempt {
  number: number;
  started: string;
  /** `null` while it runs. */
  ended: JournalEntry | null;
}

const runs = (state: string | null) => state === 'preparing' || state === 'training';

/** The attempts that a task's history tells of, the first one first. */
export function attemptsOf(journal: JournalEntry[]): Attempt[] {
  const attempts: Attempt[] = [];
  for (const entry of journal) {
    const last = attempts.at(-1);
    if (entry.to === 'preparing' && !runs(entry.from)) {
      attempts.push({ number: attempts.length + 1, started: entry.at, ended: null });
    } else if (last && !last.ended && runs(entry.from) && !runs(entry.to)) {
      last.ended = entry;
    }
  }
  return attempts;
}
