import type {
  AlternativeView,
  DeviceView,
  EstimateAnswer,
  EstimateView,
  GroupView,
  Me,
  ProcessView,
  ProgressView,
  QueueControl,
  TaskStatus,
  TaskView,
  WaitView,
} from '../src/api/types';

export const GIB = 1024 ** 3;

export const progress = (part: Partial<ProgressView> = {}): ProgressView => ({
  percent: 0,
  epoch: 0,
  total_epochs: 3,
  step: 0,
  total_steps: 120,
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
  ...part,
});

export const wait = (position: number): WaitView => ({
  code: 'devices_busy',
  position,
  running: 'finetune_1700000000_1',
  device: null,
  needed_bytes: null,
  free_bytes: null,
  holders: [],
  at: null,
  by: null,
  used: null,
  limit: null,
  quota: null,
  starts_at: null,
  ends_at: null,
  paused: null,
  zh: `排在第 ${position} 位，等待 finetune_1700000000_1 释放设备`,
  en: `position ${position}; waiting for the device that finetune_1700000000_1 holds`,
});

export const openQueue: QueueControl = {
  ...{ mode: 'open', by: null, since: null, maintenance: [], start_hours_closed_until: null },
};

/** Whoever uses a studio that asks nobody for a sign-in. */
export const me: Me = {
  ...{ name: 'guest', role: 'owner', access: 'admin', authentication: false },
  quota: { weight: 1, running: null, queued: null, gpus: null, gpu_hours_per_day: null, disk_bytes: null },
};

/** Member `index` of the group whose first task has the number `first`. */
export function member(
  first: number,
  index: number,
  size: number,
  status: TaskStatus,
  part: Partial<TaskView> = {},
): TaskView {
  const id = task(first, status).task_id;
  return task(first + index, status, { group: { id, index, size, label: `lora_rank=${2 ** index}` }, ...part });
}

export const group = (tasks: TaskView[]): GroupView => ({
  ...{ id: tasks[0].group?.id ?? '', name: null, owner: 'wang', size: tasks[0].group?.size ?? 0 },
  ...{ counts: {}, percent: 0, best: null, tasks },
});

/** A task whose number is also its age: a higher one is newer. */
export function task(number: number, status: TaskStatus, part: Partial<TaskView> = {}): TaskView {
  return {
    task_id: `finetune_${1_700_000_000 + number}_${number}`,
    name: null,
    owner: 'wang',
    priority: 'normal',
    after: [],
    group: null,
    start_after: null,
    deadline: null,
    retries: null,
    retried: 0,
    status,
    created_at: new Date((1_700_000_000 + number) * 1000).toISOString(),
    started_at: null,
    completed_at: null,
    time_limit_seconds: 21_600,
    trainer: 'builtin',
    model_name: '/models/tiny',
    dataset_path: '/uploads/faq.jsonl',
    output_dir: '/home/wang/.sage/studio_finetune/x',
    config: {},
    progress: progress(),
    wait: status === 'queued' ? wait(1) : null,
    failure: null,
    exit_code: null,
    attempt: null,
    estimate: null,
    adjustments: [],
    warnings: [],
    downloadable: status === 'completed',
    ...part,
  };
}

/** An idle GPU of 24 GiB, half a GiB of it reserved. */
export const device = (part: Partial<DeviceView> = {}): DeviceView => ({
  id: 'GPU-1',
  kind: 'nvidia',
  index: 0,
  name: 'NVIDIA RTX 4090',
  pci_bus_id: '00000000:01:00.0',
  architecture: 'Ada',
  mig: null,
  unified_memory: false,
  taken_at: '2026-01-01T00:00:00Z',
  age_seconds: 0.5,
  memory: { total: 24 * GIB, reserved: 0.5 * GIB, used: 0, free: 23.5 * GIB },
  free_for_tasks_bytes: 23.5 * GIB,
  utilisation_percent: 0,
  temperature_celsius: 40,
  power_watts: 20,
  clocks: { graphics_mhz: 210, memory_mhz: 405 },
  health: { uncorrected_ecc_errors: null, row_remap_pending: null, last_xid: null },
  processes: [],
  unattributed_bytes: 0,
  unusable: null,
  grants: [],
  task_id: null,
  ...part,
});

/** The memory of `device` with so much in use. */
export const memory = (used: number, total = 24 * GIB) => ({
  ...{ total, reserved: 0.5 * GIB, used, free: total - used - 0.5 * GIB },
});

export const held = (pid: number, bytes: number | null, part: Partial<ProcessView> = {}): ProcessView => ({
  ...{ pid, name: 'python3', user: 'li', command: 'python3 train.py', bytes, task_id: null, service: null },
  ...part,
});

export const estimate = (part: Partial<EstimateView> = {}): EstimateView => ({
  allocated_bytes: 7 * GIB,
  footprint_bytes: 8 * GIB,
  footprint_low_bytes: 7.5 * GIB,
  footprint_high_bytes: 9 * GIB,
  grant_bytes: 10 * GIB,
  seconds_per_step: 0.5,
  total_seconds: 3900,
  basis: 'formula',
  runs: null,
  breakdown: {
    ...{ weights: 4 * GIB, adapters: 0.5 * GIB, gradients: 0.5 * GIB, optimizer: GIB, activations: GIB },
    ...{ logits: 0, workspace: 0.25 * GIB, slack: 0.25 * GIB, context: 0.5 * GIB },
  },
  ...part,
});

export const answer = (part: Partial<EstimateAnswer> = {}): EstimateAnswer => ({
  trainer: { name: 'peft', zh: '8 位需要它。', en: 'weights of 8 bits need it.' },
  estimate: estimate(),
  verdict: { code: 'fits_now', zh: '现在可以。', en: 'fits now: it needs 10.0 GiB' },
  largest_max_length: 4096,
  largest_batch_size: 8,
  alternatives: [],
  warnings: [],
  ...part,
});

export const alternative = (part: Partial<AlternativeView> = {}): AlternativeView => ({
  changes_zh: '4 位权重，批大小 1',
  changes_en: '4-bit weights, micro-batch 1 (was 4)',
  patch: { load_in_4bit: true, batch_size: 1, gradient_accumulation_steps: 64 },
  estimate: estimate({ grant_bytes: 6 * GIB }),
  verdict: { code: 'fits_now', zh: '现在可以。', en: 'Fits.' },
  ...part,
});
