import type {
  AccountPatch,
  AccountView,
  AuditPage,
  CheckView,
  CreatedGroup,
  CreatedTask,
  CreatedToken,
  DatasetView,
  Devices,
  ErrorBody,
  EstimateAnswer,
  Explanation,
  FineTuneRequest,
  GroupView,
  JournalEntry,
  Me,
  Metrics,
  ModelView,
  NewAccount,
  NewToken,
  Preset,
  QueueControl,
  QueueView,
  Recommendations,
  StudioView,
  SubmitGroup,
  SubmitTask,
  TaskPage,
  TaskStatus,
  TaskView,
  TokenView,
} from './types';

/** The studio refused, or could not be reached (`status` 0). */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly zh: string | null;
  readonly nextStep: string | null;

  constructor(status: number, body: ErrorBody) {
    super(body.detail);
    this.status = status;
    this.code = body.code;
    this.zh = body.zh ?? null;
    this.nextStep = body.next_step ?? null;
  }

  get unreachable(): boolean {
    return this.status === 0;
  }
}

const UNREACHABLE: ErrorBody = { detail: '', code: 'unreachable' };

function parseError(status: number, text: string): ApiError {
  try {
    const body = JSON.parse(text) as Partial<ErrorBody>;
    if (typeof body.detail === 'string') {
      return new ApiError(status, {
        detail: body.detail,
        code: body.code ?? `http-${status}`,
        next_step: body.next_step,
      });
    }
  } catch {
    // Not ours: a proxy's page, or nothing at all.
  }
  // A development proxy answers so while the studio is away.
  if (status === 502 || status === 503 || status === 504) return new ApiError(0, UNREACHABLE);
  return new ApiError(status, { detail: text.slice(0, 300) || `HTTP ${status}`, code: `http-${status}` });
}

/** No other site's page can send it without asking the studio, which does not answer. */
const OURS = { 'x-sage': '1' };

async function request(method: string, path: string, body?: unknown): Promise<Response> {
  const form = body instanceof URLSearchParams;
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined || form ? OURS : { ...OURS, 'content-type': 'application/json' },
      body: body === undefined || form ? body : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, UNREACHABLE);
  }
  if (!response.ok) throw parseError(response.status, await response.text());
  return response;
}

async function get<T>(path: string): Promise<T> {
  return (await request('GET', path)).json() as Promise<T>;
}

async function post<T>(path: string, body?: unknown): Promise<T> {
  return (await request('POST', path, body)).json() as Promise<T>;
}

async function patch<T>(path: string, body: unknown): Promise<T> {
  return (await request('PATCH', path, body)).json() as Promise<T>;
}

async function remove(path: string): Promise<void> {
  await request('DELETE', path);
}

const group = (id: string) => `/api/v1/groups/${encodeURIComponent(id)}`;
const account = (name: string) => `/api/v1/accounts/${encodeURIComponent(name)}`;
const task = (id: string) => `/api/v1/tasks/${encodeURIComponent(id)}`;

export const api = {
  /** Leaves a cookie. */
  signIn: async (username: string, password: string) =>
    void (await request('POST', '/api/auth/login', new URLSearchParams({ username, password }))),
  signOut: async () => void (await request('POST', '/api/auth/logout')),
  me: () => get<Me>('/api/v1/me'),
  changePassword: async (current: string, next: string) =>
    void (await request('PUT', '/api/v1/me/password', { current, new: next })),
  accounts: () => get<AccountView[]>('/api/v1/accounts'),
  addAccount: (body: NewAccount) => post<AccountView>('/api/v1/accounts', body),
  changeAccount: (name: string, body: AccountPatch) => patch<AccountView>(account(name), body),
  removeAccount: (name: string) => remove(account(name)),
  /** One's own, or everybody's. */
  tokens: (all: boolean) => get<TokenView[]>(`/api/v1/tokens${all ? '?all=true' : ''}`),
  createToken: (body: NewToken) => post<CreatedToken>('/api/v1/tokens', body),
  revokeToken: (id: number) => remove(`/api/v1/tokens/${id}`),
  audit: (query: { who?: string; action?: string; limit: number; before?: number }) => {
    const search = new URLSearchParams({ limit: String(query.limit) });
    if (query.who) search.set('who', query.who);
    if (query.action) search.set('action', query.action);
    if (query.before) search.set('before', String(query.before));
    return get<AuditPage>(`/api/v1/audit?${search}`);
  },

  studio: () => get<StudioView>('/api/v1/studio'),
  devices: () => get<Devices>('/api/v1/devices'),
  doctor: () => get<CheckView[]>('/api/v1/gpus/doctor'),
  estimate: (request: FineTuneRequest) => post<EstimateAnswer>('/api/v1/estimate', request),
  /** With times for `dataset`, where one is named. */
  recommendations: (dataset: string) =>
    get<Recommendations>(`/api/v1/recommendations${dataset ? `?${new URLSearchParams({ dataset })}` : ''}`),
  models: () => get<ModelView[]>('/api/v1/models'),
  presets: () => get<Preset[]>('/api/v1/presets'),

  tasks: (query: { status?: TaskStatus; owner?: string; limit: number; before?: string }) => {
    const search = new URLSearchParams({ limit: String(query.limit) });
    if (query.owner) search.set('owner', query.owner);
    if (query.status) search.set('status', query.status);
    if (query.before) search.set('before', query.before);
    return get<TaskPage>(`/api/v1/tasks?${search}`);
  },
  task: (id: string) => get<TaskView>(task(id)),
  explain: (id: string) => get<Explanation>(`${task(id)}/explain`),
  journal: (id: string) => get<JournalEntry[]>(`${task(id)}/journal`),
  metrics: (id: string) => get<Metrics>(`${task(id)}/metrics`),
  submit: (body: SubmitTask) => post<CreatedTask>('/api/v1/tasks', body),
  cancel: (id: string) => post<TaskView>(`${task(id)}/cancel`),
  release: (id: string) => post<TaskView>(`${task(id)}/release`),
  hold: (id: string) => post<TaskView>(`${task(id)}/hold`),
  runNext: (id: string) => post<TaskView>(`${task(id)}/next`),
  putBefore: (id: string, other: string) => post<TaskView>(`${task(id)}/before`, { task: other }),
  prioritise: (id: string, priority: string) => patch<TaskView>(task(id), { priority }),
  remove: (id: string) => remove(task(id)),
  downloadUrl: (id: string) => `${task(id)}/download`,

  group: (id: string) => get<GroupView>(group(id)),
  submitGroup: (body: SubmitGroup) => post<CreatedGroup>('/api/v1/groups', body),
  cancelGroup: (id: string) => post<GroupView>(`${group(id)}/cancel`),
  holdGroup: (id: string) => post<GroupView>(`${group(id)}/hold`),
  releaseGroup: (id: string) => post<GroupView>(`${group(id)}/release`),
  removeGroup: (id: string) => remove(group(id)),

  queue: () => get<QueueView>('/api/v1/queue'),
  switchQueue: (to: 'pause' | 'drain' | 'resume') => post<QueueControl>(`/api/v1/queue/${to}`),
  maintain: (device: string, on: boolean) =>
    post<QueueControl>(`/api/v1/gpus/${encodeURIComponent(device)}/maintenance`, { on }),

  logUrl: (id: string) => `${task(id)}/log`,
  logStreamUrl: (id: string, offset: number) => `${task(id)}/log/stream?offset=${offset}`,
  /** Bytes of the log so far. */
  logLength: async (id: string): Promise<number> => {
    const { headers } = await request('HEAD', `${task(id)}/log`);
    return Number(headers.get('content-length') ?? 0);
  },

  datasets: () => get<DatasetView[]>('/api/v1/datasets'),
  pasteDataset: (filename: string, content: string) =>
    post<DatasetView>('/api/v1/datasets/paste', { filename, content }),
  removeDataset: (filename: string) => remove(`/api/v1/datasets/${encodeURIComponent(filename)}`),
  uploadDataset: (file: File, onProgress: (percent: number) => void): Promise<DatasetView> =>
    new Promise((resolve, reject) => {
      // fetch does not tell how far an upload has come.
      const upload = new XMLHttpRequest();
      const form = new FormData();
      form.append('file', file);
      upload.upload.onprogress = (event) => {
        if (event.lengthComputable) onProgress((100 * event.loaded) / event.total);
      };
      upload.onload = () => {
        if (upload.status >= 200 && upload.status < 300) resolve(JSON.parse(upload.responseText) as DatasetView);
        else reject(parseError(upload.status, upload.responseText));
      };
      upload.onerror = () => reject(new ApiError(0, UNREACHABLE));
      upload.open('POST', '/api/v1/datasets');
      upload.setRequestHeader('x-sage', OURS['x-sage']);
      upload.send(form);
    }),
};
