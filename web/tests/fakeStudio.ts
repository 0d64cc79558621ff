import { vi } from 'vitest';

type Answer = unknown | { status: number; body: unknown };

interface Call {
  method: string;
  path: string;
  body: unknown;
}

const isFull = (answer: Answer): answer is { status: number; body: unknown } =>
  typeof answer === 'object' && answer !== null && 'status' in answer && 'body' in answer;

/** `fetch` answered from a table of `METHOD path`; what was asked stays in `calls`. */
export function fakeStudio(routes: Record<string, Answer | (() => Promise<Answer>)>) {
  const calls: Call[] = [];
  const table: typeof routes = { ...routes };
  vi.stubGlobal('fetch', async (url: string, init: RequestInit = {}) => {
    const method = init.method ?? 'GET';
    const path = url.split('?')[0];
    calls.push({ method, path, body: typeof init.body === 'string' ? JSON.parse(init.body) : undefined });
    const found = table[`${method} ${path}`];
    if (found === undefined) throw new Error(`nothing answers ${method} ${path}`);
    const answer = typeof found === 'function' ? await (found as () => Promise<Answer>)() : found;
    const { status, body } = isFull(answer) ? answer : { status: 200, body: answer };
    return new Response(JSON.stringify(body), { status });
  });
  return {
    set: (route: string, answer: Answer) => {
      table[route] = answer;
    },
    posted: (path: string) => calls.filter((call) => call.method === 'POST' && call.path === path),
  };
}

/** An `EventSource` whose studio is the test. */
export class FakeEventSource extends EventTarget {
  static opened: FakeEventSource[] = [];
  static get last(): FakeEventSource {
    return FakeEventSource.opened[FakeEventSource.opened.length - 1];
  }

  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  closed = false;

  constructor(readonly url: string) {
    super();
    FakeEventSource.opened.push(this);
  }

  send(name: string, data: unknown, id = ''): void {
    this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data), lastEventId: id }));
  }

  close(): void {
    this.closed = true;
  }
}
