import { describe, expect, it } from 'vitest';
import type { StudioEvent, TaskStatus, TaskView } from '../src/api/types';
import { appendPage, applyEvent, listFromPage, type TaskList, totalOf } from '../src/features/queue/taskList';
import { openQueue, progress, task, wait } from './samples';

function listOf(tasks: TaskView[], more: Partial<TaskList> = {}): TaskList {
  const counts: TaskList['counts'] = {};
  for (const { status } of tasks) counts[status] = (counts[status] ?? 0) + 1;
  const page = { tasks, next_before: null, counts, last_event_id: 10 };
  return { ...listFromPage(page, null), ...more };
}

const moved = (id: number, changed: TaskView): StudioEvent => ({ type: 'task', id, task: changed });
const ids = (list: TaskList) => list.tasks.map(({ task_id }) => Number(task_id.split('_')[2]));
const states = (list: TaskList) => list.tasks.map(({ status }) => status);

describe('the list of all tasks', () => {
  it('follows three tasks from their creation to their ends', () => {
    const events: StudioEvent[] = [
      moved(11, task(1, 'preparing')),
      moved(12, task(2, 'queued', { wait: wait(1) })),
      moved(13, task(3, 'queued', { wait: wait(2) })),
      moved(14, task(1, 'training')),
      { type: 'progress', task_id: task(1, 'training').task_id, progress: progress({ percent: 40, loss: 1.25 }) },
      moved(15, task(2, 'cancelled')),
      {
        type: 'queue',
        waiting: [{ task_id: task(3, 'queued').task_id, wait: wait(1) }],
        total: 1,
        long: false,
        ...openQueue,
      },
      moved(16, task(1, 'completed')),
      moved(17, task(3, 'training')),
    ];
    const seen = events.map(
      (
        (list) => (event: StudioEvent) =>
          (list = applyEvent(list, event))
      )(listOf([])),
    );

    expect(states(seen[2])).toEqual(['queued', 'queued', 'preparing']);
    expect(seen[4].tasks[2].progress).toMatchObject({ percent: 40, loss: 1.25 });
    expect(seen[6].tasks[0].wait?.position).toBe(1);
    const end = seen[8];
    expect(ids(end)).toEqual([3, 2, 1]);
    expect(states(end)).toEqual(['training', 'cancelled', 'completed']);
    expect(end.counts).toMatchObject({ queued: 0, preparing: 0, training: 1, completed: 1, cancelled: 1 });
    expect(totalOf(end.counts, null)).toBe(3);
    expect(end.lastEventId).toBe(17);
  });

  it('ignores what it already contains, so that a replay cannot turn a task back', () => {
    const list = listOf([task(1, 'completed')]);
    expect(applyEvent(list, moved(9, task(1, 'training')))).toBe(list);
    expect(applyEvent(list, { type: 'removed', id: 10, task_id: list.tasks[0].task_id })).toBe(list);
  });

  it('orders tasks of the same moment by their running number', () => {
    const at = '2026-01-01T00:00:00Z';
    const same = (number: number) => task(number, 'queued', { task_id: `finetune_1_${number}`, created_at: at });
    // The same moment, written with decimals.
    const tenth = { ...same(10), created_at: '2026-01-01T00:00:00.000Z' };
    let list = listOf([same(9)]);
    list = applyEvent(list, moved(11, tenth));
    list = applyEvent(list, moved(12, same(11)));
    expect(ids(list)).toEqual([11, 10, 9]);
  });

  it('asks for the counts again when a task that is not loaded changes', () => {
    const list = listOf([task(9, 'queued'), task(8, 'queued')], { nextBefore: 'finetune_1700000008_8' });
    const next = applyEvent(list, moved(11, task(2, 'cancelled')));
    expect(ids(next)).toEqual([9, 8]);
    expect(next.countsStale).toBe(true);
    expect(applyEvent(list, moved(11, task(10, 'queued'))).countsStale).toBe(false);
    expect(applyEvent(list, { type: 'removed', id: 11, task_id: 'finetune_1_1' }).countsStale).toBe(true);
  });

  it('removes a task and counts it out', () => {
    const list = listOf([task(2, 'failed'), task(1, 'completed')]);
    const next = applyEvent(list, { type: 'removed', id: 11, task_id: list.tasks[0].task_id });
    expect(ids(next)).toEqual([1]);
    expect(totalOf(next.counts, null)).toBe(1);
  });

  it('appends a further page without doubling what events brought', () => {
    const list = listOf([task(5, 'queued'), task(4, 'queued')], { nextBefore: 'x' });
    const page = { tasks: [task(4, 'queued'), task(3, 'queued')], next_before: null, counts: {}, last_event_id: 0 };
    const next = appendPage(list, page);
    expect(ids(next)).toEqual([5, 4, 3]);
    expect(next.nextBefore).toBeNull();
  });

  it('leaves the list alone on events about something else', () => {
    const list = listOf([task(1, 'training')]);
    expect(applyEvent(list, { type: 'resync', id: 99 })).toBe(list);
    expect(applyEvent(list, { type: 'progress', task_id: 'other', progress: progress() })).toBe(list);
  });
});

describe('a list of one state', () => {
  const filtered = (filter: TaskStatus, tasks: TaskView[]) => listOf(tasks, { filter });

  it('takes in tasks that come into the state and gives up those that leave it', () => {
    let list = filtered('queued', [task(3, 'queued'), task(1, 'queued')]);
    list = applyEvent(list, moved(11, task(1, 'preparing')));
    expect(ids(list)).toEqual([3]);
    list = applyEvent(list, moved(12, task(2, 'queued')));
    expect(ids(list)).toEqual([3, 2]);
    list = applyEvent(list, moved(13, task(4, 'training')));
    expect(ids(list)).toEqual([3, 2]);
    expect(list.countsStale).toBe(false);
  });

  it('puts a task only where what is loaded reaches', () => {
    const list = { ...filtered('failed', [task(9, 'failed')]), nextBefore: 'finetune_1700000009_9' };
    expect(ids(applyEvent(list, moved(11, task(3, 'failed'))))).toEqual([9]);
    expect(ids(applyEvent({ ...list, nextBefore: null }, moved(11, task(3, 'failed'))))).toEqual([9, 3]);
  });
});

describe('one owner’s list', () => {
  const mine = (tasks: TaskView[]) =>
    ({
      ...listFromPage({ tasks, next_before: null, counts: { training: 1 }, last_event_id: 10 }, null, 'ana'),
    }) as TaskList;

  it('takes no notice of what others do', () => {
    const own = task(1, 'training', { owner: 'ana' });
    const list = mine([own]);
    const others = applyEvent(list, { type: 'task', id: 11, task: task(2, 'queued', { owner: 'ben' }) });
    expect(others.tasks).toEqual([own]);
    expect(others.counts).toEqual({ training: 1 });
    const done = applyEvent(others, { type: 'task', id: 12, task: { ...own, status: 'completed' } });
    expect(done.counts).toEqual({ training: 0, completed: 1 });
  });
});
