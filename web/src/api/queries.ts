import { keepPreviousData, MutationCache, QueryCache, QueryClient, useQuery } from '@tanstack/react-query';
import { applyToGroup, nextPage, rowsOf } from '../features/queue/groups';
import { appendPage, applyEvent, listFromPage, type TaskList } from '../features/queue/taskList';
import { ApiError, api } from './client';
import { RecentEvents } from './feed';
import type { FineTuneRequest, GroupView, Me, TaskStatus } from './types';

export const recentEvents = new RecentEvents();

export const keys = {
  me: ['me'] as const,
  accounts: ['accounts'] as const,
  allTokens: ['tokens'] as const,
  tokens: (all: boolean) => ['tokens', all] as const,
  audit: (who: string, action: string) => ['audit', who, action] as const,
  studio: ['studio'] as const,
  devices: ['devices'] as const,
  models: ['models'] as const,
  presets: ['presets'] as const,
  datasets: ['datasets'] as const,
  lists: ['tasks'] as const,
  list: (filter: TaskStatus | null, owner: string | null = null) => ['tasks', filter ?? 'all', owner] as const,
  queue: ['queue'] as const,
  groups: ['group'] as const,
  group: (id: string) => ['group', id] as const,
  task: (id: string) => ['task', id] as const,
  journal: (id: string) => ['journal', id] as const,
  explanations: ['explain'] as const,
  explain: (id: string) => ['explain', id] as const,
  metrics: (id: string) => ['metrics', id] as const,
  doctor: ['doctor'] as const,
  /** What fits depends on what runs: both go stale with every change of a task. */
  fits: ['fits'] as const,
  estimate: (request: FineTuneRequest | null) => ['fits', 'estimate', request] as const,
  recommendations: (dataset: string) => ['fits', 'recommendations', dataset] as const,
};

/** Nothing goes stale by age: events say what changed. Only an unreachable studio is asked again. */
export function makeQueryClient(): QueryClient {
  /** Whoever is refused for want of a sign-in is asked for one: whether they are still known decides what is shown. */
  const onError = (error: Error) => {
    const known = client.getQueryState<Me>(keys.me);
    if (isSignedOut(error) && known?.status === 'success' && known.fetchStatus === 'idle') {
      void client.invalidateQueries({ queryKey: keys.me });
    }
  };
  const client: QueryClient = new QueryClient({
    queryCache: new QueryCache({ onError }),
    mutationCache: new MutationCache({ onError }),
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
  return client;
}

export const isSignedOut = (error: unknown) => error instanceof ApiError && error.status === 401;

const FIRST_PAGE = 50;
const NEXT_PAGE = 200;

async function loadList(filter: TaskStatus | null, owner: string | null): Promise<TaskList> {
  const page = await api.tasks({ status: filter ?? undefined, owner: owner ?? undefined, limit: FIRST_PAGE });
  return recentEvents.after(page.last_event_id).reduce(applyEvent, listFromPage(page, filter, owner));
}

/** Loads until so many rows are there, a group being one. */
export async function loadRows(
  client: QueryClient,
  filter: TaskStatus | null,
  owner: string | null,
  rows: number,
): Promise<void> {
  const key = keys.list(filter, owner);
  for (;;) {
    const list = client.getQueryData<TaskList>(key);
    const before = list && nextPage(list);
    if (!before || rowsOf(list.tasks).length >= rows) return;
    const page = await api.tasks({ status: filter ?? undefined, owner: owner ?? undefined, limit: NEXT_PAGE, before });
    client.setQueryData<TaskList>(key, (now) => (now && nextPage(now) === before ? appendPage(now, page) : now));
  }
}

/** Of everybody, or of one owner. */
export function useTaskList(filter: TaskStatus | null, owner: string | null = null) {
  return useQuery({ queryKey: keys.list(filter, owner), queryFn: () => loadList(filter, owner) });
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

export function useGroup(id: string) {
  return useQuery({
    queryKey: keys.group(id),
    queryFn: async (): Promise<GroupView> => {
      const before = recentEvents.lastId;
      const group = await api.group(id);
      return recentEvents.after(before).reduce(applyToGroup, group);
    },
  });
}

export const useMe = () => useQuery({ queryKey: keys.me, queryFn: api.me });
export const useQueue = () => useQuery({ queryKey: keys.queue, queryFn: api.queue });
/** How much room disk and memory have is told by no event. */
const ROOM_MS = 30_000;

export const useStudio = () =>
  useQuery({
    queryKey: keys.studio,
    queryFn: api.studio,
    refetchInterval: ROOM_MS,
    refetchIntervalInBackground: false,
  });
export const useDevices = () => useQuery({ queryKey: keys.devices, queryFn: api.devices });
export const useModels = () => useQuery({ queryKey: keys.models, queryFn: api.models });
export const usePresets = () => useQuery({ queryKey: keys.presets, queryFn: api.presets });
export const useDatasets = () => useQuery({ queryKey: keys.datasets, queryFn: api.datasets });
export const useExplanation = (id: string) => useQuery({ queryKey: keys.explain(id), queryFn: () => api.explain(id) });
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
