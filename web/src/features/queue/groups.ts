import type { GroupView, StudioEvent, TaskStatus, TaskView } from '../../api/types';
import { isFinal, isRunning } from './status';
import { type TaskList, totalOf, withProgress, withWaits } from './taskList';

/** One line of the list: a task, or tasks that were submitted as one. */
export type Row = { key: string; task: TaskView } | GroupRow;

export interface GroupRow {
  key: string;
  group: string;
  /** Those that the list has loaded and that are in its state, in the group's order; at least one. */
  members: TaskView[];
}

export const isGroup = (row: Row): row is GroupRow => 'group' in row;

/** The group that this task shows up under, if any: one that was submitted alone stands for itself. */
const groupOf = ({ group }: TaskView) => (group !== null && group.size > 1 ? group : null);

/** A group stands where its newest task would. */
export function rowsOf(tasks: TaskView[]): Row[] {
  const rows: Row[] = [];
  const groups = new Map<string, GroupRow>();
  for (const task of tasks) {
    const group = groupOf(task);
    if (!group) {
      rows.push({ key: task.task_id, task });
      continue;
    }
    const row = groups.get(group.id) ?? { key: `group ${group.id}`, group: group.id, members: [] };
    if (row.members.length === 0) rows.push(row);
    groups.set(group.id, row);
    row.members.push(task);
  }
  for (const row of groups.values()) row.members.sort(byIndex);
  return rows;
}

const byIndex = (one: TaskView, other: TaskView) => (one.group?.index ?? 0) - (other.group?.index ?? 0);

/** How many rows the list will have; more than that cannot be while parts of it are not loaded. */
export function rowCount(list: TaskList, counts: TaskList['counts']): number {
  const rows = rowsOf(list.tasks);
  if (list.nextBefore === null) return rows.length;
  const known = (row: Row) => {
    if (!isGroup(row)) return 1;
    return list.filter === null ? (row.members[0].group?.size ?? 1) : row.members.length;
  };
  const loaded = rows.reduce((sum, row) => sum + known(row), 0);
  return rows.length + Math.max(0, totalOf(counts, list.filter) - loaded);
}

/**
 * What to pass as `before` for the next page. A group has the id of its oldest task, so the rest of one that is cut off
 * here is left out: its row asks for all of it anyway.
 */
export function nextPage(list: TaskList): string | null {
  const last = list.tasks.at(-1);
  return list.nextBefore && ((last && groupOf(last)?.id) ?? list.nextBefore);
}

export interface GroupSummary {
  /** Of the tasks that are still there. */
  total: number;
  counts: Partial<Record<TaskStatus, number>>;
  /** 0 to 100: the mean, where an ended task counts as done. */
  percent: number;
  /** 0 to 100: how many have completed. */
  completedPercent: number;
  /** The one with the lowest training loss of those that have one. */
  best: { task: TaskView; loss: number } | null;
}

export function summaryOf(members: TaskView[]): GroupSummary {
  const counts: GroupSummary['counts'] = {};
  let best: GroupSummary['best'] = null;
  let percent = 0;
  for (const task of members) {
    const { loss } = task.progress;
    counts[task.status] = (counts[task.status] ?? 0) + 1;
    percent += isFinal(task.status) ? 100 : task.progress.percent;
    if (loss !== null && (best === null || loss < best.loss)) best = { task, loss };
  }
  const total = members.length;
  const share = (sum: number) => (total === 0 ? 0 : sum / total);
  return {
    total,
    counts,
    percent: share(percent),
    completedPercent: share(100 * (counts.completed ?? 0)),
    best,
  };
}

/** What the times of a task are, of all members together: from the first start to the last end. */
export type Span = Pick<TaskView, 'status' | 'created_at' | 'started_at' | 'completed_at'>;

export function spanOf(members: TaskView[]): Span {
  const sorted = (times: (string | null)[]) =>
    times.filter((at) => at !== null).sort((one, other) => Date.parse(one) - Date.parse(other));
  const isOver = members.every(({ status }) => isFinal(status));
  const running = members.find(({ status }) => isRunning(status));
  return {
    status: (running ?? members[0]).status,
    created_at: sorted(members.map((task) => task.created_at))[0],
    started_at: sorted(members.map((task) => task.started_at))[0] ?? null,
    completed_at: isOver ? (sorted(members.map((task) => task.completed_at)).at(-1) ?? null) : null,
  };
}

/** The group after one event; the very same where it is about something else. */
export function applyToGroup(group: GroupView, event: StudioEvent): GroupView {
  const tasks = changed(group, event);
  return tasks === group.tasks ? group : { ...group, tasks };
}

function changed({ id, tasks }: GroupView, event: StudioEvent): TaskView[] {
  switch (event.type) {
    case 'task': {
      if (event.task.group?.id !== id) return tasks;
      const others = tasks.filter((task) => task.task_id !== event.task.task_id);
      return [...others, event.task].sort(byIndex);
    }
    case 'removed':
      return tasks.some((task) => task.task_id === event.task_id)
        ? tasks.filter((task) => task.task_id !== event.task_id)
        : tasks;
    case 'progress':
      return withProgress(tasks, event);
    case 'queue':
      return withWaits(tasks, event);
    case 'devices':
    case 'resync':
      return tasks;
  }
}
