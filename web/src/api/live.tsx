import { type QueryClient, useQueryClient } from '@tanstack/react-query';
import { createContext, type ReactNode, useContext, useEffect, useRef, useState } from 'react';
import { applyToGroup } from '../features/queue/groups';
import { applyEvent, type TaskList } from '../features/queue/taskList';
import { api } from './client';
import { type Connection, followStudio } from './events';
import { keys, recentEvents, useTaskList } from './queries';
import type { GroupView, QueueView, StudioEvent, TaskView } from './types';

type Listener = (event: StudioEvent) => void;

interface Live {
  connection: Connection;
  /** Hears every event after it was applied; returns how to stop. */
  listen: (listener: Listener) => () => void;
}

const LiveContext = createContext<Live>({ connection: 'connecting', listen: () => () => {} });

export const useLive = () => useContext(LiveContext);

/** Events come in bursts after an absence: they are applied together. */
const BATCH_MS = 30;

/** Keeps every list and every open task up to date from one event stream. */
export function LiveProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const all = useTaskList(null);
  const [connection, setConnection] = useState<Connection>('connecting');
  const [listeners] = useState(() => new Set<Listener>());
  const [listen] = useState(() => (listener: Listener) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  });

  const since = useRef<number | null>(null);
  since.current ??= all.data?.lastEventId ?? null;
  const ready = since.current !== null;

  useEffect(() => {
    if (!ready || since.current === null) return;
    let pending: StudioEvent[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    let wasAway = false;

    const flush = () => {
      timer = undefined;
      const events = pending;
      pending = [];
      applyEvents(client, events);
      for (const event of events) for (const listener of listeners) listener(event);
    };
    const stream = followStudio(
      since.current,
      (event) => {
        recentEvents.add(event);
        pending.push(event);
        timer ??= setTimeout(flush, BATCH_MS);
      },
      (state) => {
        setConnection(state);
        if (state === 'away') {
          wasAway = true;
          // A browser does not tell a session that has ended from a studio that is away.
          void client.invalidateQueries({ queryKey: keys.me });
        }
        if (state === 'open' && wasAway) {
          // Readings and progress are not replayed, and it may be another studio than before.
          wasAway = false;
          void client.invalidateQueries();
        }
      },
    );
    return () => {
      clearTimeout(timer);
      stream.close();
    };
  }, [client, listeners, ready]);

  return <LiveContext value={{ connection, listen }}>{children}</LiveContext>;
}

export function applyEvents(client: QueryClient, events: StudioEvent[]): void {
  client.setQueriesData<TaskList>({ queryKey: keys.lists }, (list) => list && events.reduce(applyEvent, list));
  client.setQueriesData<GroupView>({ queryKey: keys.groups }, (group) => group && events.reduce(applyToGroup, group));
  for (const event of events) {
    switch (event.type) {
      case 'task':
        updateTask(client, event.task.task_id, () => event.task);
        void client.invalidateQueries({ queryKey: keys.journal(event.task.task_id) });
        void client.invalidateQueries({ queryKey: keys.explain(event.task.task_id) });
        if (event.task.status === 'completed') void client.invalidateQueries({ queryKey: keys.models });
        break;
      case 'removed':
        client.removeQueries({ queryKey: keys.task(event.task_id), type: 'inactive' });
        void client.invalidateQueries({ queryKey: keys.task(event.task_id) });
        void client.invalidateQueries({ queryKey: keys.models });
        break;
      case 'progress':
        updateTask(client, event.task_id, (task) => ({ ...task, progress: event.progress }));
        break;
      case 'queue': {
        void client.invalidateQueries({ queryKey: keys.explanations });
        const { type: _type, waiting, total: _total, long: _long, ...control } = event;
        client.setQueryData<QueueView>(keys.queue, (queue) => queue && { ...queue, ...control });
        for (const { task_id, wait } of waiting) {
          updateTask(client, task_id, (task) => (task.status === 'queued' ? { ...task, wait } : task));
        }
        break;
      }
      case 'devices':
        client.setQueryData(keys.devices, event.devices);
        break;
      case 'resync':
        void client.invalidateQueries();
        break;
    }
  }
  if (events.some(({ type }) => type === 'task')) void client.invalidateQueries({ queryKey: keys.fits });
  void refreshCounts(client);
}

function updateTask(client: QueryClient, id: string, change: (task: TaskView) => TaskView): void {
  // Only an open task is kept; setQueryData would otherwise make an entry for each.
  if (client.getQueryData(keys.task(id))) {
    client.setQueryData<TaskView>(keys.task(id), (task) => task && change(task));
  }
}

let refreshing = false;

async function refreshCounts(client: QueryClient): Promise<void> {
  const lists = client.getQueriesData<TaskList>({ queryKey: keys.lists });
  const stale = lists.map(([, list]) => list).filter((list) => list?.countsStale);
  if (refreshing || stale.length === 0) return;
  refreshing = true;
  try {
    for (const owner of stale.map((list) => list?.owner ?? null)) {
      const { counts } = await api.tasks({ owner: owner ?? undefined, limit: 1 });
      const fresh = (list: TaskList | undefined) => list && { ...list, counts, countsStale: false };
      client.setQueryData<TaskList>(keys.list(null, owner), fresh);
    }
  } catch {
    // The next event tries again.
  } finally {
    refreshing = false;
  }
}
