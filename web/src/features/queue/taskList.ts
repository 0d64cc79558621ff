import type { StudioEvent, TaskPage, TaskStatus, TaskView } from '../../api/types';

/** The loaded beginning of one list, newest first: all tasks, or those in one state or of one owner. */
export interface TaskList {
  filter: TaskStatus | null;
  owner: string | null;
  tasks: TaskView[];
  /** Pass as `before` to load more; `null` when everything is loaded. */
  nextBefore: string | null;
  /** Of all tasks, or of all of the owner's. Kept up to date in the unfiltered list only, which sees every task come and go. */
  counts: Partial<Record<TaskStatus, number>>;
  /** A task that is not loaded changed: only the studio knows the counts now. */
  countsStale: boolean;
  /** Everything up to this event is contained. */
  lastEventId: number;
}

export function listFromPage(page: TaskPage, filter: TaskStatus | null, owner: string | null = null): TaskList {
  return {
    filter,
    owner,
    tasks: page.tasks,
    nextBefore: page.next_before,
    counts: page.counts,
    countsStale: false,
    lastEventId: page.last_event_id,
  };
}

/** Adds the next page; what events have put there meanwhile is not doubled. */
export function appendPage(list: TaskList, page: TaskPage): TaskList {
  const known = new Set(list.tasks.map((task) => task.task_id));
  const added = page.tasks.filter((task) => !known.has(task.task_id));
  return { ...list, tasks: [...list.tasks, ...added], nextBefore: page.next_before };
}

/** The list after one event. An event that is contained already changes nothing. */
export function applyEvent(list: TaskList, event: StudioEvent): TaskList {
  switch (event.type) {
    case 'task':
      return event.id <= list.lastEventId ? list : { ...applyTask(list, event.task), lastEventId: event.id };
    case 'removed':
      return event.id <= list.lastEventId ? list : { ...applyRemoved(list, event.task_id), lastEventId: event.id };
    case 'progress':
      return withTasks(list, withProgress(list.tasks, event));
    case 'queue': {
      const next = withTasks(list, withWaits(list.tasks, event));
      if (next.filter !== null || next.owner !== null || (next.counts.queued ?? 0) === event.total) return next;
      return { ...next, counts: { ...next.counts, queued: event.total } };
    }
    case 'devices':
    case 'resync':
      return list;
  }
}

type Of<Name extends StudioEvent['type']> = Extract<StudioEvent, { type: Name }>;

/** The same tasks with one's progress. Where nothing changes, these and the next answer the very array they got. */
export function withProgress(tasks: TaskView[], event: Of<'progress'>): TaskView[] {
  return replaced(tasks, (task) => (task.task_id === event.task_id ? { ...task, progress: event.progress } : task));
}

/** The same tasks with their reasons for waiting. */
export function withWaits(tasks: TaskView[], event: Of<'queue'>): TaskView[] {
  const waits = new Map(event.waiting.map((entry) => [entry.task_id, entry.wait]));
  return replaced(tasks, (task) => {
    const wait = task.status === 'queued' ? waits.get(task.task_id) : undefined;
    return wait ? { ...task, wait } : task;
  });
}

function replaced(tasks: TaskView[], change: (task: TaskView) => TaskView): TaskView[] {
  const next = tasks.map(change);
  return next.some((task, at) => task !== tasks[at]) ? next : tasks;
}

const withTasks = (list: TaskList, tasks: TaskView[]) => (tasks === list.tasks ? list : { ...list, tasks });

function applyTask(list: TaskList, task: TaskView): TaskList {
  if (list.owner !== null && list.owner !== task.owner) return list;
  const at = list.tasks.findIndex((other) => other.task_id === task.task_id);
  const before = at < 0 ? null : list.tasks[at];
  const belongs = list.filter === null || task.status === list.filter;
  const isNew = before === null && isNewest(list, task);

  let { counts, countsStale } = list;
  if (list.filter === null) {
    if (before && before.status !== task.status) counts = shift(counts, before.status, task.status);
    else if (isNew) counts = shift(counts, null, task.status);
    else if (!before) countsStale = true;
  }

  let tasks = list.tasks;
  if (before && belongs) tasks = tasks.with(at, task);
  else if (before) tasks = tasks.toSpliced(at, 1);
  else if (belongs && (isNew || inLoadedRange(list, task))) {
    const place = tasks.findIndex((other) => compareNewestFirst(task, other) < 0);
    tasks = tasks.toSpliced(place < 0 ? tasks.length : place, 0, task);
  }
  return { ...list, tasks, counts, countsStale };
}

function applyRemoved(list: TaskList, taskId: string): TaskList {
  const at = list.tasks.findIndex((task) => task.task_id === taskId);
  if (at < 0) return { ...list, countsStale: list.filter === null };
  return {
    ...list,
    tasks: list.tasks.toSpliced(at, 1),
    counts: list.filter === null ? shift(list.counts, list.tasks[at].status, null) : list.counts,
  };
}

function shift(counts: TaskList['counts'], from: TaskStatus | null, to: TaskStatus | null): TaskList['counts'] {
  const next = { ...counts };
  if (from) next[from] = Math.max(0, (next[from] ?? 0) - 1);
  if (to) next[to] = (next[to] ?? 0) + 1;
  return next;
}

function isNewest(list: TaskList, task: TaskView): boolean {
  return list.tasks.length === 0 ? list.nextBefore === null : compareNewestFirst(task, list.tasks[0]) < 0;
}

function inLoadedRange(list: TaskList, task: TaskView): boolean {
  const last = list.tasks.at(-1);
  return list.nextBefore === null || (last !== undefined && compareNewestFirst(task, last) < 0);
}

/** Neither sorts as text: times have any number of decimals, ids end in a running number. */
function compareNewestFirst(a: TaskView, b: TaskView): number {
  const later = Date.parse(b.created_at) - Date.parse(a.created_at);
  if (later !== 0) return later;
  return b.task_id.localeCompare(a.task_id, 'en', { numeric: true });
}

/** How many tasks the list has, loaded or not. */
export function totalOf(counts: TaskList['counts'], filter: TaskStatus | null): number {
  if (filter) return counts[filter] ?? 0;
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
