import type { Devices, ProgressView, StudioEvent, TaskView } from './types';

type QueueEvent = Extract<StudioEvent, { type: 'queue' }>;

export type Connection = 'connecting' | 'open' | 'away';

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5_000;
/** A hidden tab gives its connection back: a browser grants six to a host over HTTP/1.1, all tabs together. */
const HIDDEN_MS = 60_000;

/** A server-sent stream that comes back by itself after the studio was away. */
export interface Stream {
  close(): void;
}

interface StreamOptions {
  /** Asked on every connection, so that it can carry the position reached. */
  url: () => string;
  handlers: Record<string, (event: MessageEvent<string>) => void>;
  onConnection?: (state: Connection) => void;
}

/**
 * `EventSource` gives up for good on an HTTP error and cannot move its start; so each connection is a new one, opened at
 * the position reached.
 */
export function openStream({ url, handlers, onConnection }: StreamOptions): Stream {
  let source: EventSource | null = null;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let hidden: ReturnType<typeof setTimeout> | undefined;
  let wait = FIRST_RETRY_MS;
  let closed = false;

  const disconnect = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
  };

  const connect = () => {
    disconnect();
    const opened = new EventSource(url());
    source = opened;
    opened.onopen = () => {
      wait = FIRST_RETRY_MS;
      onConnection?.('open');
    };
    opened.onerror = () => {
      if (source !== opened) return;
      disconnect();
      onConnection?.('away');
      retry = setTimeout(connect, wait);
      wait = Math.min(wait * 2, LAST_RETRY_MS);
    };
    for (const [name, handle] of Object.entries(handlers)) {
      opened.addEventListener(name, (event) => {
        if (source === opened) handle(event as MessageEvent<string>);
      });
    }
  };

  const onVisibility = () => {
    clearTimeout(hidden);
    if (document.visibilityState === 'hidden') {
      hidden = setTimeout(disconnect, HIDDEN_MS);
    } else if (!source) {
      wait = FIRST_RETRY_MS;
      connect();
    }
  };

  const onOnline = () => {
    if (!closed) connect();
  };

  document.addEventListener('visibilitychange', onVisibility);
  window.addEventListener('online', onOnline);
  onConnection?.('connecting');
  connect();

  return {
    close() {
      closed = true;
      clearTimeout(hidden);
      document.removeEventListener('visibilitychange', onVisibility);
      window.removeEventListener('online', onOnline);
      disconnect();
    },
  };
}

/** Follows `/api/v1/events` from `since`; what was missed while away is replayed by the studio. */
export function followStudio(
  since: number,
  onEvent: (event: StudioEvent) => void,
  onConnection: (state: Connection) => void,
): Stream {
  let last = since;
  const numbered = (event: MessageEvent<string>) => {
    const id = Number(event.lastEventId);
    if (event.lastEventId !== '' && Number.isFinite(id)) last = id;
    return last;
  };

  return openStream({
    url: () => `/api/v1/events?last_event_id=${last}`,
    onConnection,
    handlers: {
      task: (event) => {
        const id = numbered(event);
        onEvent({ type: 'task', id, task: JSON.parse(event.data) as TaskView });
      },
      removed: (event) => {
        const id = numbered(event);
        onEvent({ type: 'removed', id, ...(JSON.parse(event.data) as { task_id: string }) });
      },
      progress: (event) => {
        onEvent({ type: 'progress', ...(JSON.parse(event.data) as { task_id: string; progress: ProgressView }) });
      },
      queue: (event) => {
        onEvent({ type: 'queue', ...(JSON.parse(event.data) as Omit<QueueEvent, 'type'>) });
      },
      devices: (event) => onEvent({ type: 'devices', devices: JSON.parse(event.data) as Devices }),
      resync: (event) => onEvent({ type: 'resync', id: numbered(event) }),
    },
  });
}
