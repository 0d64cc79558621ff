import { describe, expect, it } from 'vitest';
import type { StudioEvent, TaskView } from '../src/api/types';
import { applyToGroup, isGroup, nextPage, rowCount, rowsOf, spanOf, summaryOf } from '../src/features/queue/groups';
import { listFromPage, type TaskList } from '../src/features/queue/taskList';
import { group, member, openQueue, progress, task, wait } from './samples';

const listOf = (tasks: TaskView[], more: Partial<TaskList> = {}): TaskList => ({
  ...listFromPage({ tasks, next_before: null, counts: {}, last_event_id: 10 }, null),
  ...more,
});
const four = () => [0, 1, 2, 3].map((index) => member(10, index, 4, 'queued', { wait: wait(index + 1) }));
const shown = (tasks: TaskView[]) =>
  rowsOf(tasks).map((row) =>
    isGroup(row) ? row.members.map(({ group }) => group?.label) : Number(row.task.task_id.split('_')[2]),
  );

describe('the rows of the list', () => {
  it('show a group once, where its newest task is, with its members in their order', () => {
    const [zero, one, two] = four();
    const newest = [task(20, 'queued'), two, one, zero, task(1, 'completed')];
    expect(shown(newest)).toEqual([20, ['lora_rank=1', 'lora_rank=2', 'lora_rank=4'], 1]);
  });

  it('show a group of one as the task that it is', () => {
    const alone = task(5, 'queued', { group: { id: 'x', index: 0, size: 1, label: 'seed=1' } });
    expect(shown([alone])).toEqual([5]);
  });

  it('are counted by rows where all is loaded, and by what there may be at most where not', () => {
    const tasks = [task(20, 'queued'), ...four().reverse().slice(0, 2)];
    expect(rowCount(listOf(tasks), {})).toBe(2);
    // One alone, four in the group, five that are not loaded.
    expect(rowCount(listOf(tasks, { nextBefore: 'x' }), { queued: 10 })).toBe(2 + 5);
    // Of the queued ones only the two of the group that are known here are surely in it.
    expect(rowCount(listOf(tasks, { nextBefore: 'x', filter: 'queued' }), { queued: 10 })).toBe(2 + 7);
  });

  it('go on behind a group that is cut off', () => {
    const [zero, one, two] = four();
    expect(nextPage(listOf([two, one], { nextBefore: one.task_id }))).toBe(zero.task_id);
    expect(nextPage(listOf([task(3, 'queued')], { nextBefore: 'last' }))).toBe('last');
    expect(nextPage(listOf([two, one]))).toBeNull();
  });
});

describe('a group', () => {
  it('is summed up: how many are done, how far all are, who is best', () => {
    const tasks = [
      member(10, 0, 4, 'completed', { progress: progress({ percent: 100, loss: 0.5 }) }),
      member(10, 1, 4, 'failed', { progress: progress({ percent: 30, loss: null }) }),
      member(10, 2, 4, 'training', { progress: progress({ percent: 40, loss: 0.4 }) }),
      member(10, 3, 4, 'queued'),
    ];
    const summary = summaryOf(tasks);
    expect(summary).toMatchObject({ total: 4, percent: 60, completedPercent: 25 });
    expect(summary.counts).toEqual({ completed: 1, failed: 1, training: 1, queued: 1 });
    expect(summary.best).toEqual({ task: tasks[2], loss: 0.4 });
    expect(summaryOf([])).toMatchObject({ total: 0, percent: 0, best: null });
  });

  it('takes from its first start to its last end', () => {
    const at = (minute: number) => `2026-01-01T00:0${minute}:00Z`;
    const one = member(10, 0, 2, 'completed', { started_at: at(3), completed_at: at(5) });
    const two = member(10, 1, 2, 'training', { started_at: at(1) });
    expect(spanOf([one, two])).toMatchObject({ status: 'training', started_at: at(1), completed_at: null });
    const end = spanOf([{ ...two, status: 'failed', completed_at: at(4) }, one]);
    expect(end).toMatchObject({ started_at: at(1), completed_at: at(5), created_at: one.created_at });
    expect(spanOf([member(10, 0, 2, 'queued')])).toMatchObject({ started_at: null, completed_at: null });
  });

  it('follows the events about its members and no others', () => {
    const before = group(four());
    const [zero, one] = before.tasks;
    const events: StudioEvent[] = [
      { type: 'task', id: 11, task: { ...zero, status: 'training', wait: null } },
      { type: 'progress', task_id: zero.task_id, progress: progress({ percent: 50, loss: 0.7 }) },
      { type: 'queue', waiting: [{ task_id: one.task_id, wait: wait(9) }], total: 3, long: false, ...openQueue },
      { type: 'removed', id: 12, task_id: before.tasks[3].task_id },
    ];
    const after = events.reduce(applyToGroup, before);
    expect(after.tasks.map(({ status }) => status)).toEqual(['training', 'queued', 'queued']);
    expect(summaryOf(after.tasks).best?.loss).toBe(0.7);
    expect(after.tasks[1].wait?.position).toBe(9);

    const foreign: StudioEvent[] = [
      { type: 'task', id: 13, task: task(99, 'training') },
      { type: 'removed', id: 14, task_id: 'other' },
      { type: 'progress', task_id: 'other', progress: progress() },
      { type: 'resync', id: 15 },
    ];
    for (const event of foreign) expect(applyToGroup(after, event)).toBe(after);
  });
});
