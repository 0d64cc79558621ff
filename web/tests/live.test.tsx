import { type QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { act, render, renderHook, screen, waitFor } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LiveProvider, useLive } from '../src/api/live';
import {
  isSignedOut,
  makeQueryClient,
  recentEvents,
  useDevices,
  useGroup,
  useMe,
  useQueue,
  useTaskList,
} from '../src/api/queries';
import { FakeEventSource, fakeStudio } from './fakeStudio';
import { group, me, member, openQueue, progress, task, wait } from './samples';

const devices = (recommendation: string) => ({
  ...{ detecting: false, age_seconds: 0, devices: [], simulated: false, findings: [] },
  recommendation,
});

function Probe() {
  const { connection } = useLive();
  const { data } = useTaskList(null);
  const gpus = useDevices();
  return (
    <>
      <p data-testid="connection">{connection}</p>
      <p data-testid="recommendation">{gpus.data?.recommendation}</p>
      {data?.tasks.map(({ task_id, status, progress, wait }) => (
        <p key={task_id} data-testid="row">
          {`${task_id.split('_')[2]} ${status} ${progress.percent} ${wait?.position ?? '-'}`}
        </p>
      ))}
    </>
  );
}

let client: QueryClient;
let studio: ReturnType<typeof fakeStudio>;

const page = (lastEventId: number, ...tasks: ReturnType<typeof task>[]) => ({
  ...{ tasks, next_before: null, counts: {}, last_event_id: lastEventId },
});
const rows = () => screen.queryAllByTestId('row').map((row) => row.textContent);

beforeEach(async () => {
  FakeEventSource.opened = [];
  recentEvents.add({ type: 'resync', id: 0 });
  vi.stubGlobal('EventSource', FakeEventSource);
  studio = fakeStudio({
    'GET /api/v1/tasks': page(41, task(2, 'queued'), task(1, 'training')),
    'GET /api/v1/devices': devices('first'),
  });
  client = makeQueryClient();
  render(
    <QueryClientProvider client={client}>
      <LiveProvider>
        <Probe />
      </LiveProvider>
    </QueryClientProvider>,
  );
  await waitFor(() => expect(FakeEventSource.opened).toHaveLength(1));
  act(() => FakeEventSource.last.onopen?.());
});

afterEach(() => client.clear());

describe('the event stream', () => {
  it('starts where the list ends and changes what is shown', async () => {
    expect(FakeEventSource.last.url).toBe('/api/v1/events?last_event_id=41');
    const source = FakeEventSource.last;
    source.send('progress', { task_id: task(1, 'training').task_id, progress: progress({ percent: 50 }) });
    source.send('task', task(3, 'queued', { wait: wait(2) }), '42');
    source.send('devices', devices('second'));
    await waitFor(() => expect(rows()).toEqual(['3 queued 0 2', '2 queued 0 1', '1 training 50 -']));
    expect(screen.getByTestId('recommendation').textContent).toBe('second');

    source.send('removed', { task_id: task(3, 'queued').task_id }, '43');
    source.send('queue', { waiting: [{ task_id: task(2, 'queued').task_id, wait: wait(9) }], total: 1, long: false });
    await waitFor(() => expect(rows()).toEqual(['2 queued 0 9', '1 training 50 -']));
  });

  it('says that the studio is away, comes back by itself at the place reached, and brings everything up to date', async () => {
    FakeEventSource.last.send('task', task(1, 'completed'), '57');
    act(() => FakeEventSource.last.onerror?.());
    expect(screen.getByTestId('connection').textContent).toBe('away');
    expect(FakeEventSource.opened[0].closed).toBe(true);

    await waitFor(() => expect(FakeEventSource.opened).toHaveLength(2), { timeout: 3_000 });
    expect(FakeEventSource.last.url).toBe('/api/v1/events?last_event_id=57');
    studio.set('GET /api/v1/devices', devices('after the restart'));
    studio.set('GET /api/v1/tasks', page(60, task(2, 'training'), task(1, 'completed')));
    act(() => FakeEventSource.last.onopen?.());
    await waitFor(() => expect(rows()).toEqual(['2 training 0 -', '1 completed 0 -']));
    expect(screen.getByTestId('recommendation').textContent).toBe('after the restart');
    expect(screen.getByTestId('connection').textContent).toBe('open');
  });

  it('keeps a group and the switches of the queue up to date, and asks who is there once it is refused', async () => {
    const members = [member(10, 0, 2, 'training'), member(10, 1, 2, 'queued')];
    studio.set(`GET /api/v1/groups/${members[0].group?.id}`, group(members));
    studio.set('GET /api/v1/queue', { ...openQueue, running: [], waiting: [], total: 0, long: false });
    studio.set('GET /api/v1/me', me);
    const { result } = renderHook(() => ({ group: useGroup(members[0].task_id), queue: useQueue(), me: useMe() }), {
      wrapper: ({ children }) => <QueryClientProvider client={client}>{children}</QueryClientProvider>,
    });
    await waitFor(() => expect(result.current.me.data?.name).toBe('guest'));
    await waitFor(() => expect(result.current.group.data?.tasks).toHaveLength(2));

    const source = FakeEventSource.last;
    source.send('task', { ...members[0], status: 'completed' }, '50');
    source.send('queue', { waiting: [], total: 1, long: false, ...openQueue, mode: 'paused', by: 'li' });
    await waitFor(() =>
      expect(result.current.group.data?.tasks.map(({ status }) => status)).toEqual(['completed', 'queued']),
    );
    expect(result.current.queue.data).toMatchObject({ mode: 'paused', by: 'li' });

    const refusal = { status: 401, body: { detail: 'Not authenticated', code: 'unauthorized' } };
    studio.set('GET /api/v1/me', refusal);
    studio.set('GET /api/v1/queue', refusal);
    void result.current.queue.refetch();
    await waitFor(() => expect(isSignedOut(result.current.me.error)).toBe(true));
  });

  it('fetches the lists again on resync', async () => {
    studio.set('GET /api/v1/tasks', page(99, task(5, 'failed')));
    FakeEventSource.last.send('resync', {}, '99');
    await waitFor(() => expect(rows()).toEqual(['5 failed 0 -']));
  });

  it('does not let a slow answer turn a task back', async () => {
    let answer = (_page: unknown) => {};
    studio.set('GET /api/v1/tasks', () => new Promise((resolve) => (answer = resolve)));
    void client.invalidateQueries();
    await waitFor(() => expect(client.isFetching()).toBeGreaterThan(0));
    FakeEventSource.last.send('task', task(2, 'training'), '44');
    await waitFor(() => expect(rows()).toEqual(['2 training 0 -', '1 training 0 -']));
    answer(page(43, task(2, 'queued'), task(1, 'training')));
    await waitFor(() => expect(client.isFetching()).toBe(0));
    expect(rows()).toEqual(['2 training 0 -', '1 training 0 -']);
  });
});
