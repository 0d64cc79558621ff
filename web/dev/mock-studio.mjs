// The make-believe studio itself: devices, tasks that queue and train, data sets, events.

import { devicesView, GIB, grant, hasCards, MACHINE, nearest, place, release, use } from './mock-devices.mjs';
import { alternativesOf, estimateOf, trainerOf, verdictOf } from './mock-estimate.mjs';

const SPEED = Number(process.env.SPEED ?? 1);
const SEED_TASKS = Number(process.env.SEED_TASKS ?? 14);
export const FINAL = new Set(['completed', 'failed', 'cancelled']);

export const startedAt = new Date().toISOString();
const now = () => new Date().toISOString();
export const tasks = new Map(); // id -> { view, log, metrics, journal, timer }, oldest first
export const events = []; // numbered ones, for resume
export const followers = new Set();
let seq = 0;
let running = 0;

/** What people have switched. */
export const control = { mode: 'open', by: null, since: null, maintenance: [], start_hours_closed_until: null };

export const presets = [
  preset('safe', '稳妥', 'Safe', {
    num_epochs: 3,
    gradient_accumulation_steps: 16,
    learning_rate: 2e-5,
    max_length: 512,
    lora_rank: 8,
    lora_alpha: 16,
  }),
  preset('balanced', '均衡', 'Balanced', {
    num_epochs: 3,
    gradient_accumulation_steps: 16,
    learning_rate: 5e-5,
    max_length: 1024,
    lora_rank: 8,
    lora_alpha: 16,
  }),
  preset('fast', '快速', 'Fast', {
    num_epochs: 1,
    gradient_accumulation_steps: 8,
    learning_rate: 1e-4,
    max_length: 512,
    lora_rank: 16,
    lora_alpha: 32,
  }),
];

function preset(name, title_zh, title_en, values) {
  return { name, title_zh, title_en, batch_size: 1, ...values };
}

// --- events ---------------------------------------------------------------------------------------------------------

export function send(response, name, data, id) {
  response.write(`${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}

function emit(name, data, numbered = false) {
  const id = numbered ? seq : undefined;
  if (numbered) events.push({ id, name, data: structuredClone(data) });
  for (const response of followers) send(response, name, data, id);
}

export function openStream(request, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.write(': hello\n\n');
  return (onClose) => request.on('close', onClose);
}

// --- tasks ----------------------------------------------------------------------------------------------------------

const inState = (...states) => [...tasks.values()].filter((task) => states.includes(task.view.status));

function move(task, to, why, who = 'scheduler') {
  const from = task.view.status === to ? null : task.view.status;
  task.view.status = to;
  seq += 1;
  task.journal.push({
    seq,
    at: now(),
    task_id: task.view.task_id,
    who,
    from: task.journal.length ? from : null,
    to,
    why,
  });
  emit('task', task.view, true);
}

const gib = (bytes) => `${(bytes / GIB).toFixed(1)} GiB`;

function waitOf(task, position) {
  const needed = task.view.estimate?.grant_bytes ?? null;
  // As if every task before it took five minutes.
  const at = (starts) => new Date(Date.now() + starts * 300_000).toISOString();
  const expected = { starts_at: at(position), ends_at: at(position + 1) };
  const base = {
    position,
    running: null,
    device: null,
    needed_bytes: needed,
    free_bytes: null,
    holders: [],
    at: null,
    by: null,
    used: null,
    limit: null,
    quota: null,
    ...expected,
  };
  if (control.mode === 'paused') {
    return {
      ...base,
      code: 'queue_paused',
      by: control.by,
      zh: `排在第 ${position} 位，队列已由 ${control.by} 暂停`,
      en: `position ${position}; the queue was paused by ${control.by}`,
    };
  }
  const ahead = inState('queued').find((other) => other !== task && tasksBefore(other, task));
  const verdict = verdictOf(task.view.estimate);
  const near = nearest();
  if (hasCards && verdict.code === 'does_not_fit')
    return { ...base, code: 'too_large', zh: verdict.zh, en: verdict.en };
  if (near && needed !== null && near.free < needed) {
    return {
      ...base,
      code: 'device_memory',
      device: near.name,
      free_bytes: near.free,
      holders: near.holders,
      zh: `等待显存：需要 ${gib(needed)}，${near.name} 可用 ${gib(near.free)}，还差 ${gib(needed - near.free)}`,
      en: `waiting for GPU memory: needs ${gib(needed)}, ${near.name} has ${gib(near.free)} free, ${gib(needed - near.free)} short`,
    };
  }
  if (ahead) {
    const id = ahead.view.task_id;
    return {
      ...base,
      code: 'behind',
      running: id,
      zh: `排在第 ${position} 位，在 ${id} 之后`,
      en: `position ${position}; after ${id}`,
    };
  }
  const holder = inState('preparing', 'training')[0]?.view.task_id ?? null;
  return {
    ...base,
    code: 'devices_busy',
    running: holder,
    zh: `等待 GPU 资源释放（当前运行: ${holder}）`,
    en: `Waits for a GPU (running now: ${holder})`,
  };
}

const tasksBefore = (one, other) => one.view.created_at < other.view.created_at;

function updateQueue() {
  const waiting = inState('queued');
  waiting.forEach((task, index) => {
    task.view.wait = waitOf(task, index + 1);
  });
  emit('queue', {
    ...control,
    waiting: waiting.map(({ view }) => ({ task_id: view.task_id, wait: view.wait })),
    total: waiting.length,
    long: waiting.length > 5,
  });
}

const updateDevices = () => emit('devices', devicesView());

export function log(task, text) {
  const line = `[${new Date().toTimeString().slice(0, 8)}] ${text}\n`;
  const offset = Buffer.byteLength(task.log);
  task.log += line;
  for (const response of task.logFollowers) {
    send(response, 'log', { offset, text: line }, offset + Buffer.byteLength(line));
  }
}

export function endLog(task) {
  for (const response of task.logFollowers) {
    send(response, 'end', {});
    response.end();
  }
  task.logFollowers.clear();
}

function create(request, created = new Date()) {
  const recipe = request.fine_tune;
  const chosen = presets.find(({ name }) => name === recipe.preset) ?? presets[1];
  const { name: _n, title_zh: _z, title_en: _e, ...values } = chosen;
  const config = {
    kind: 'fine_tune',
    model_name: '',
    dataset_file: '',
    ...values,
    load_in_8bit: true,
    warmup_ratio: 0.03,
    schedule: 'cosine',
    weight_decay: 0,
    max_grad_norm: 1,
    seed: 42,
    validation_split: 0.1,
    checkpoint_every_steps: null,
    ...recipe,
  };
  delete config.preset;
  const id = `finetune_${Math.floor(created.getTime() / 1000)}_${tasks.size + 1}`;
  const task = {
    view: {
      task_id: id,
      name: request.name ?? null,
      owner: 'wang',
      priority: request.priority ?? 'normal',
      after: request.after ?? [],
      group: null,
      start_after: request.start_after ?? null,
      deadline: request.deadline ?? null,
      retries: request.retries ?? null,
      retried: 0,
      status: 'pending',
      created_at: created.toISOString(),
      started_at: null,
      completed_at: null,
      time_limit_seconds: request.time_limit_seconds ?? 21600,
      trainer: trainerOf(recipe).name,
      model_name: recipe.model_name,
      dataset_path: recipe.dataset_file,
      output_dir: `/home/wang/.sage/studio_finetune/${id}`,
      config,
      progress: {
        percent: 0,
        epoch: 0,
        total_epochs: config.num_epochs,
        step: 0,
        total_steps: 40 * config.num_epochs,
        loss: null,
        learning_rate: null,
        grad_norm: null,
        tokens_per_second: null,
        memory_bytes: null,
        device_bytes: null,
        peak_bytes: null,
        peak_allocated_bytes: null,
        seconds_per_step: null,
        fetch: null,
      },
      wait: null,
      failure: null,
      exit_code: null,
      attempt: null,
      estimate: estimateOf(config),
      adjustments: [],
      warnings: config.load_in_8bit
        ? [
            {
              code: 'no_8bit',
              zh: '内置训练器不支持 8 位加载，将使用 16 位。',
              en: 'The built-in trainer cannot load in 8 bits; it uses 16.',
            },
          ]
        : [],
      downloadable: false,
    },
    log: '',
    metrics: { train: [], eval: [] },
    journal: [],
    logFollowers: new Set(),
    timer: null,
  };
  tasks.set(id, task);
  return task;
}

export function submit(request) {
  const task = create(request);
  task.alternatives = verdictOf(task.view.estimate).code === 'does_not_fit' ? alternativesOf(task.view.config) : [];
  if (request.hold) {
    move(task, 'pending', 'held on request', 'wang');
    return task;
  }
  enqueue(task, 'wang');
  return task;
}

/** Room for it now: a device, or the CPU where there is none. */
function room(task) {
  if (control.mode === 'paused') return null;
  if (!hasCards) return running === 0 ? 'cpu' : null;
  return place(task.view.estimate?.grant_bytes ?? GIB);
}

export function enqueue(task, who) {
  const device = inState('queued').length === 0 ? room(task) : null;
  if (device) return start(task, device);
  task.view.status = 'queued';
  updateQueue();
  move(task, 'queued', 'no device has room', who);
  log(task, '任务已加入队列，等待 GPU 资源释放');
}

function start(task, device) {
  running += 1;
  const bytes = task.view.estimate?.grant_bytes ?? GIB;
  const card = device === 'cpu' ? null : device;
  if (card) grant(card, task.view.task_id, bytes);
  task.view.wait = null;
  task.view.started_at = now();
  task.view.attempt = {
    number: 1,
    devices: card ? [card.id] : [],
    grants: card ? [{ device: card.id, bytes }] : [],
    pid: 4000 + seq,
  };
  move(task, 'preparing', `granted ${card?.name ?? 'the CPU'}`);
  updateDevices();
  updateQueue();
  log(task, `loading ${task.view.model_name}`);
  const hub = !task.view.model_name.startsWith('/');
  let fetched = 0;
  task.timer = setInterval(() => {
    if (hub && fetched < 10) {
      fetched += 1;
      task.view.progress.fetch = { bytes: fetched * 98_000_000, total_bytes: 980_000_000 };
      emit('progress', { task_id: task.view.task_id, progress: task.view.progress });
      return;
    }
    clearInterval(task.timer);
    task.view.progress.fetch = null;
    move(task, 'training', 'the model is loaded');
    train(task);
  }, 300 / SPEED);
}

function point(task, step) {
  const { total_steps: total, total_epochs: epochs } = task.view.progress;
  const warm = Math.max(1, Math.round(total * 0.03));
  const rate =
    task.view.config.learning_rate * (step < warm ? step / warm : (1 + Math.cos((Math.PI * step) / total)) / 2);
  return {
    step,
    epoch: (epochs * step) / total,
    loss: 0.55 + 1.9 * Math.exp((-4 * step) / total) + 0.08 * (Math.random() - 0.5),
    learning_rate: rate,
    grad_norm: 0.6 + Math.random() * 0.5,
    tokens_per_second: 1480 + Math.random() * 60,
    memory_bytes: 6.1 * GIB,
  };
}

function train(task) {
  const fails = task.view.model_name.includes('fail');
  task.timer = setInterval(() => {
    const { progress } = task.view;
    const sample = point(task, progress.step + 1);
    const held = Math.round((task.view.estimate?.footprint_bytes ?? 6.1 * GIB) * (progress.step < 8 ? 0.8 : 0.97));
    use(task.view.task_id, held);
    Object.assign(progress, {
      device_bytes: held,
      peak_bytes: held,
      peak_allocated_bytes: Math.round(held * 0.93),
      seconds_per_step: 0.25 / SPEED,
    });
    Object.assign(progress, sample, { percent: (100 * sample.step) / progress.total_steps });
    task.metrics.train.push(sample);
    log(
      task,
      `step ${sample.step}/${progress.total_steps} loss ${sample.loss.toFixed(4)} lr ${sample.learning_rate.toExponential(2)} ${sample.tokens_per_second.toFixed(0)} tok/s`,
    );
    if (sample.step % 40 === 0) task.metrics.eval.push({ step: sample.step, loss: sample.loss + 0.1 });
    emit('progress', { task_id: task.view.task_id, progress });
    if (fails && sample.step === 12) finish(task, 'failed');
    else if (progress.step >= progress.total_steps) finish(task, 'completed');
  }, 250 / SPEED);
}

function startWaiting() {
  for (const next of inState('queued')) {
    const device = room(next);
    if (!device) break;
    start(next, device);
  }
}

/** `pause`, `drain` or `resume`. */
export function switchQueue(to) {
  const mode = { pause: 'paused', drain: 'draining', resume: 'open' }[to];
  const open = mode === 'open';
  Object.assign(control, { mode, by: open ? null : 'guest', since: open ? null : now() });
  startWaiting();
  updateQueue();
  return control;
}

export function finish(task, to, who = 'supervisor') {
  const wasRunning = ['preparing', 'training'].includes(task.view.status);
  clearInterval(task.timer);
  Object.assign(task.view, { completed_at: now(), wait: null, attempt: null });
  if (to === 'failed') {
    task.view.failure = {
      code: 'out_of_memory',
      zh: '显存不足：训练需要约 13.1 GiB，而显卡只有 10.7 GiB 可用。把最大长度降到 512，或使用"稳妥"预设后重试。',
      en: 'Out of GPU memory: the training needs about 13.1 GiB and 10.7 GiB were free. Lower the maximum length to 512, or try again with the safe preset.',
    };
    log(task, 'error: out of memory');
  }
  if (to === 'completed') {
    task.view.downloadable = true;
    task.view.progress.percent = 100;
    log(task, 'adapter saved');
  }
  release(task.view.task_id);
  move(task, to, to === 'cancelled' ? 'cancelled on request' : to === 'failed' ? 'exit code 1' : 'exit code 0', who);
  endLog(task);
  if (wasRunning) running -= 1;
  updateDevices();
  startWaiting();
  updateQueue();
}

/** Finished tasks of the last days, so that there is something to look at. */
function seedTasks() {
  const models = ['Qwen/Qwen2.5-Coder-1.5B-Instruct', 'Qwen/Qwen2.5-Coder-0.5B-Instruct', '/data/models/qwen2.5-3b'];
  for (let index = SEED_TASKS; index > 0; index -= 1) {
    const created = new Date(Date.now() - index * 5_400_000);
    const task = create(
      {
        name: index % 4 ? null : `客服问答 v${index}`,
        fine_tune: { model_name: models[index % 3], dataset_file: '/home/wang/.sage/uploads/support-faq.jsonl' },
      },
      created,
    );
    const to = index === 2 ? 'failed' : index === 5 ? 'cancelled' : 'completed';
    if (index === 1) task.view.adjustments = ['halve_micro_batch', 'halve_micro_batch', 'gradient_checkpointing'];
    if (index === 1 && task.view.estimate) {
      const peak = Math.round(task.view.estimate.footprint_bytes * 1.04);
      Object.assign(task.view.progress, { peak_bytes: peak, peak_allocated_bytes: Math.round(peak * 0.93) });
      Object.assign(task.view.progress, { seconds_per_step: 0.83 });
    }
    const { progress } = task.view;
    const last = to === 'completed' ? progress.total_steps : Math.round(progress.total_steps * 0.4);
    for (let step = 1; step <= last; step += 1) task.metrics.train.push(point(task, step));
    for (let step = 40; step <= last; step += 40)
      task.metrics.eval.push({ step, loss: task.metrics.train[step - 1].loss + 0.1 });
    Object.assign(progress, task.metrics.train.at(-1), { percent: (100 * last) / progress.total_steps });
    task.view.started_at = new Date(created.getTime() + 4_000).toISOString();
    move(task, 'preparing', 'granted NVIDIA GeForce RTX 3060');
    move(task, 'training', 'the model is loaded');
    log(task, `loading ${task.view.model_name}`);
    for (const sample of task.metrics.train)
      log(task, `step ${sample.step}/${progress.total_steps} loss ${sample.loss.toFixed(4)}`);
    finish(task, to, to === 'cancelled' ? 'wang' : 'supervisor');
    running = 0;
    task.view.completed_at = new Date(created.getTime() + 1_900_000 + index * 77_000).toISOString();
  }
}

export function removeTask(id) {
  tasks.delete(id);
  seq += 1;
  emit('removed', { task_id: id }, true);
}

export const lastEvent = () => seq;

seedTasks();
if (MACHINE === 'h100') {
  const sizes = ['7B', '1.5B', '7B', '32B', '72B'];
  for (const [index, size] of sizes.entries()) {
    const fine_tune = {
      model_name: `/data/models/qwen2.5-${size}`,
      dataset_file: '/home/wang/.sage/uploads/support-faq.jsonl',
    };
    const task = submit({ name: `assistant ${size} ${index + 1}`, fine_tune });
    if (index === 0)
      task.view.warnings.push({
        code: 'foreign-use',
        zh: '其他程序占用了预留给任务的显存：GPU 7 还差 1.2 GiB（python3，pid 41377，占用 9.0 GiB）。训练可能因显存不足而中断',
        en: 'another program has taken memory promised to this task: GPU 7 is 1.2 GiB short (python3, pid 41377, holds 9.0 GiB). The training may run out of memory',
      });
  }
}
setInterval(updateDevices, 2000);
