import { keepPreviousData, QueryClient, useQuery } from '@tanstack/react-query';
import { appendPage, applyEvent, listFromPage, type TaskList } from '../features/queue/taskList';
import { ApiError, api } from './client';
import { RecentEvents } from './feed';
import type { FineTuneRequest, TaskStatus } from './types';

export const recentEvents = new RecentEvents();

export const keys = {
  studio: ['studio'] as const,
  devices: ['devices'] as const,
  models: ['models'] as const,
  presets: ['presets'] as const,
  datasets: ['datasets'] as const,
  lists: ['tasks'] as const,
  list: (filter: TaskStatus | null) => ['tasks', filter ?? 'all'] as const,
  task: (id: string) => ['task', id] as const,
  journal: (id: string) => ['journal', id] as const,
  metrics: (id: string) => ['metrics', id] as const,
  doctor: ['doctor'] as const,
  /** What fits depends on what runs: both go stale with every change of a task. */
  fits: ['fits'] as const,
  estimate: (request: FineTuneRequest | null) => ['fits', 'estimate', request] as const,
  recommendations: (dataset: string) => ['fits', 'recommendations', dataset] as const,
};

/** Nothing goes stale by age: events say what changed. Only an unreachable studio is asked again. */
export function makeQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: Number.POSITIVE_INFINITY,
        refetchOnWindowFocus: false,
        refetchOnReconnect: false,
        // "Offline" says nothing about a studio on this machine.
        networkMode: 'always',
        retry: (_count, error) => error instanceof ApiError && error.unreachable,
        retryDelay: (attempt) => Math.min(500 * 2 ** attempt, 5_000),
      },
      mutations: { networkMode: 'always' },
    },
  });
}

const FIRST_PAGE = 50;
const NEXT_PAGE = 200;

async function loadList(filter: TaskStatus | null): Promise<TaskList> {
  const page = await api.tasks({ status: filter ?? undefined, limit: FIRST_PAGE });
  return recentEvents.after(page.last_event_id).reduce(applyEvent, listFromPage(page, filter));
}

/** Loads until `rows` rows are there. */
export async function loadRows(client: QueryClient, filter: TaskStatus | null, rows: number): Promise<void> {
  for (;;) {
    const list = client.getQueryData<TaskList>(keys.list(filter));
    if (!list?.nextBefore || list.tasks.length >= rows) return;
    const before = list.nextBefore;
    const page = await api.tasks({ status: filter ?? undefined, limit: NEXT_PAGE, before });
    client.setQueryData<TaskList>(keys.list(filter), (now) =>
      now && now.nextBefore === before ? appendPage(now, page) : now,
    );
  }
}

export function useTaskList(filter: TaskStatus | null) {
  return useQuery({ queryKey: keys.list(filter), queryFn: () => loadList(filter) });
}

export function useTask(id: string) {
  return useQuery({
    queryKey: keys.task(id),
    queryFn: async () => {
      const before = recentEvents.lastOf(id);
      const task = await api.task(id);
      const after = recentEvents.lastOf(id);
      return after !== null && after !== before ? after : task;
    },
  });
}

export const useStudio = () => useQuery({ queryKey: keys.studio, queryFn: api.studio });
export const useDevices = () => useQuery({ queryKey: keys.devices, queryFn: api.devices });
export const useModels = () => useQuery({ queryKey: keys.models, queryFn: api.models });
export const usePresets = () => useQuery({ queryKey: keys.presets, queryFn: api.presets });
export const useDatasets = () => useQuery({ queryKey: keys.datasets, queryFn: api.datasets });
export const useJournal = (id: string) => useQuery({ queryKey: keys.journal(id), queryFn: () => api.journal(id) });

/** What fits now depends on programs that the studio is not told about. */
const FITS_MS = 15_000;

export const useEstimate = (request: FineTuneRequest | null) =>
  useQuery({
    queryKey: keys.estimate(request),
    queryFn: () => api.estimate(request as FineTuneRequest),
    enabled: request !== null,
    placeholderData: keepPreviousData,
    refetchInterval: FITS_MS,
  });

export const useRecommendations = (dataset: string) =>
  useQuery({
    queryKey: keys.recommendations(dataset),
    queryFn: () => api.recommendations(dataset),
    refetchInterval: FITS_MS,
  });
