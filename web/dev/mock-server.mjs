// A make-believe studio for work on the page: `npm run mock`, then `npm run dev`.
// Tasks queue, train with a falling loss and finish; one in a while fails. Nothing is kept. SPEED=10 trains ten times as
// fast, MACHINE=h100 has eight big GPUs in every state there is, DEVICES=0 has none, SEED_TASKS=0 starts empty, DIST=dist serves a built page from the same port.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { gzipSync } from 'node:zlib';
import { datasets, fileOf, Refusal, storeDataset } from './mock-datasets.mjs';
import { devicesView, doctor, GIB } from './mock-devices.mjs';
import { answerEstimate, recommendations } from './mock-estimate.mjs';
import {
  control,
  endLog,
  enqueue,
  events,
  FINAL,
  finish,
  followers,
  lastEvent,
  log,
  openStream,
  presets,
  removeTask,
  send,
  startedAt,
  submit,
  switchQueue,
  tasks,
} from './mock-studio.mjs';

const PORT = Number(process.env.PORT ?? 8080);
const DIST = process.env.DIST;

function find(id) {
  const task = tasks.get(id);
  if (!task) throw new Refusal(404, 'task_not_found', 'Task not found');
  return task;
}

const routes = {
  'GET /health': () => ({ status: 'ok' }),
  'GET /api/v1/me': () => ({
    name: 'guest',
    role: 'owner',
    access: 'admin',
    authentication: false,
    quota: { weight: 1, running: null, queued: null, gpus: null, gpu_hours_per_day: null, disk_bytes: null },
  }),
  'GET /api/v1/queue': () => ({
    ...control,
    ...{ running: [], waiting: [], total: 0, long: false, forecast_accuracy: null },
  }),
  'POST /api/v1/queue/pause': () => switchQueue('pause'),
  'POST /api/v1/queue/drain': () => switchQueue('drain'),
  'POST /api/v1/queue/resume': () => switchQueue('resume'),
  'GET /api/v1/accounts': () => [],
  'GET /api/v1/audit': () => ({ entries: [], next_before: null }),
  'GET /api/v1/studio': () => ({
    version: '0.1.0',
    home: '/home/wang/.sage',
    pid: process.pid,
    started_at: startedAt,
    default_time_limit_seconds: 21600,
    queue_warning: 5,
    upload_limit_bytes: 2 * GIB,
    recoveries: [],
    authentication: false,
  }),
  'GET /api/v1/devices': devicesView,
  'GET /api/v1/gpus/doctor': doctor,
  'GET /api/v1/recommendations': ({ query }) => recommendations(query.get('dataset')),
  'POST /api/v1/estimate': ({ body }) => {
    const { preset, ...request } = JSON.parse(body);
    const { name, title_zh, title_en, ...values } = presets.find((found) => found.name === preset) ?? presets[1];
    return answerEstimate({ ...values, ...request });
  },
  'GET /api/v1/presets': () => presets,
  'GET /api/v1/models': () => [
    {
      name: 'Qwen/Qwen2.5-Coder-1.5B-Instruct',
      type: 'base',
      source: 'hub',
      description: 'Qwen 2.5 Coder 1.5B',
      bytes: 3.1e9,
      task_id: null,
      created_at: null,
    },
    {
      name: 'Qwen/Qwen2.5-Coder-0.5B-Instruct',
      type: 'base',
      source: 'hub',
      description: 'Qwen 2.5 Coder 0.5B',
      bytes: 9.9e8,
      task_id: null,
      created_at: null,
    },
    {
      name: '/data/models/qwen2.5-3b',
      type: 'base',
      source: 'local',
      description: 'Qwen2ForCausalLM, 3.1 B',
      bytes: 6.2e9,
      task_id: null,
      created_at: null,
    },
  ],
  'GET /api/v1/datasets': () => [...datasets.values()].reverse(),
  'POST /api/v1/datasets/paste': ({ body }) => {
    const { filename, content } = JSON.parse(body);
    return [201, storeDataset(filename, content)];
  },
  'POST /api/v1/datasets': ({ body, request }) => {
    const { filename, content } = fileOf(body, request.headers['content-type']);
    return [201, storeDataset(filename, content)];
  },
  'DELETE /api/v1/datasets/:id': ({ id }) => {
    datasets.delete(id);
    return [204];
  },
  'GET /api/v1/tasks': ({ query }) => {
    const all = [...tasks.values()].map(({ view }) => view).reverse();
    const counts = {};
    for (const { status } of all) counts[status] = (counts[status] ?? 0) + 1;
    const filtered = query.get('status') ? all.filter(({ status }) => status === query.get('status')) : all;
    const from = query.get('before') ? filtered.findIndex(({ task_id }) => task_id === query.get('before')) + 1 : 0;
    const limit = Number(query.get('limit') ?? 50);
    const page = filtered.slice(from, from + limit);
    return {
      tasks: page,
      next_before: from + limit < filtered.length ? page.at(-1).task_id : null,
      counts,
      last_event_id: lastEvent(),
    };
  },
  'POST /api/v1/tasks': ({ body }) => {
    const request = JSON.parse(body);
    if (!request.fine_tune.model_name)
      throw new Refusal(422, 'invalid_recipe', 'model_name is empty', 'Choose a model.');
    const task = submit(request);
    return [201, { ...task.view, alternatives: task.alternatives }];
  },
  'GET /api/v1/tasks/:id': ({ id }) => find(id).view,
  'POST /api/v1/tasks/:id/cancel': ({ id }) => {
    const task = find(id);
    if (FINAL.has(task.view.status)) throw new Refusal(409, 'task_final', '任务不在运行中，无法取消');
    log(task, 'cancelled');
    finish(task, 'cancelled', 'wang');
    return task.view;
  },
  'POST /api/v1/tasks/:id/release': ({ id }) => {
    enqueue(find(id), 'wang');
    return find(id).view;
  },
  'DELETE /api/v1/tasks/:id': ({ id }) => {
    const task = find(id);
    if (!FINAL.has(task.view.status) && task.view.status !== 'pending')
      throw new Refusal(409, 'task_active', '无法删除运行中或排队中的任务');
    removeTask(id);

    return [204];
  },
  'GET /api/v1/tasks/:id/metrics': ({ id }) => find(id).metrics,
  'GET /api/v1/tasks/:id/journal': ({ id }) => find(id).journal,
  'GET /api/v1/tasks/:id/download': ({ id, response }) => {
    const task = find(id);
    if (!task.view.downloadable) throw new Refusal(409, 'not_completed', '任务尚未完成');
    response.writeHead(200, {
      'content-type': 'application/gzip',
      'content-disposition': `attachment; filename="${id}_finetuned_model.tar.gz"`,
    });
    response.end(gzipSync(Buffer.alloc(1024)));
  },
  'GET /api/v1/tasks/:id/log': ({ id, response }) => {
    const bytes = Buffer.from(find(id).log);
    response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8', 'content-length': bytes.length });
    response.end(bytes);
  },
  'GET /api/v1/tasks/:id/log/stream': ({ id, query, request, response }) => {
    const task = find(id);
    const onClose = openStream(request, response);
    const offset = Number(query.get('offset') ?? 0);
    const rest = Buffer.from(task.log).subarray(offset).toString();
    if (rest) send(response, 'log', { offset, text: rest }, offset + Buffer.byteLength(rest));
    task.logFollowers.add(response);
    if (FINAL.has(task.view.status)) endLog(task);
    onClose(() => task.logFollowers.delete(response));
  },
  'GET /api/v1/events': ({ query, request, response }) => {
    const onClose = openStream(request, response);
    const last = Number(request.headers['last-event-id'] ?? query.get('last_event_id') ?? lastEvent());
    if (last > lastEvent()) send(response, 'resync', {}, lastEvent());
    for (const event of events) if (event.id > last) send(response, event.name, event.data, event.id);
    followers.add(response);
    onClose(() => followers.delete(response));
  },
};

function route(method, path) {
  const parts = path.split('/');
  for (const [pattern, handle] of Object.entries(routes)) {
    const [wanted, shape] = pattern.split(' ');
    const names = shape.split('/');
    if (wanted !== method || names.length !== parts.length) continue;
    if (names.every((name, index) => name === ':id' || name === parts[index])) {
      return { handle, id: decodeURIComponent(parts[names.indexOf(':id')] ?? '') };
    }
  }
  return null;
}

const types = {
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.html': 'text/html; charset=utf-8',
};

async function servePage(path, response) {
  const file = extname(path) ? path : '/index.html';
  try {
    const bytes = await readFile(join(DIST, normalize(file)));
    response.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' });
    response.end(bytes);
  } catch {
    response.writeHead(404).end();
  }
}

createServer(async (request, response) => {
  const url = new URL(request.url, 'http://studio');
  const found = route(request.method === 'HEAD' ? 'GET' : request.method, url.pathname);
  if (!found && DIST && !url.pathname.startsWith('/api')) return servePage(url.pathname, response);
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let status = 200;
  let answer;
  try {
    if (!found) throw new Refusal(404, 'not_found', `no route ${request.method} ${url.pathname}`);
    answer = found.handle({
      id: found.id,
      query: url.searchParams,
      body: Buffer.concat(chunks).toString(),
      request,
      response,
    });
    if (Array.isArray(answer) && typeof answer[0] === 'number') [status, answer] = answer;
  } catch (error) {
    status = error.status ?? 500;
    answer = error.body ?? { detail: String(error), code: 'internal' };
  }
  if (response.headersSent) return;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(status === 204 ? undefined : JSON.stringify(answer));
}).listen(PORT, '127.0.0.1', () => console.log(`SAGE Studio (make-believe) listening on http://127.0.0.1:${PORT}`));
