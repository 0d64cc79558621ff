import type { ProgressView, TaskStatus, TaskView, WaitView } from '../src/api/types';

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
  fetch: null,
  ...part,
});

export const wait = (position: number): WaitView => ({
  code: 'devices_busy',
  position,
  running: 'finetune_1700000000_1',
  zh: `排在第 ${position} 位，等待 finetune_1700000000_1 释放设备`,
  en: `position ${position}; waiting for the device that finetune_1700000000_1 holds`,
});

/** A task whose number is also its age: a higher one is newer. */
export function task(number: number, status: TaskStatus, part: Partial<TaskView> = {}): TaskView {
  return {
    task_id: `finetune_${1_700_000_000 + number}_${number}`,
    name: null,
    owner: 'wang',
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
    attempt: null,
    warnings: [],
    downloadable: status === 'completed',
    ...part,
  };
}
