import { expect, it } from 'vitest';
import type { JournalEntry } from '../src/api/types';
import { attemptsOf } from '../src/features/task/attempts';

const entry = (from: string | null, to: string, why: string): JournalEntry => ({
  seq: 1,
  at: `2026-01-01T00:00:0${why.length % 10}Z`,
  task_id: 'finetune_1_1',
  who: 'studio',
  from,
  to,
  why,
  why_zh: why,
});

it('counts attempts as the command line does', () => {
  const journal = [
    entry(null, 'queued', 'submitted'),
    entry('queued', 'preparing', 'its turn'),
    entry('preparing', 'training', 'training began'),
    entry('training', 'training', 'a warning'),
    entry('training', 'queued', 'paused'),
    entry('queued', 'preparing', 'its turn'),
  ];
  const attempts = attemptsOf(journal);
  expect(attempts.map(({ number, ended }) => [number, ended?.why ?? null])).toEqual([
    [1, 'paused'],
    [2, null],
  ]);
});
