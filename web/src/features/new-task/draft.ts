import type { FineTuneRequest, SubmitTask, TaskView } from '../../api/types';

/** The fields behind the Advanced switch; what is not set follows the preset or the studio's default. */
export type Overrides = Omit<FineTuneRequest, 'model_name' | 'dataset_file' | 'preset'>;

export type DatasetSource = 'upload' | 'paste' | 'choose';
export type PresetName = 'safe' | 'balanced' | 'fast';
export type TimeUnit = 'h' | 'min';

/** What is in the create form, kept over a reload. */
export interface Draft {
  name: string;
  model: string;
  source: DatasetSource;
  /** Path of the data set that is chosen, uploaded or stored from pasted text. */
  dataset: string;
  pasted: string;
  preset: PresetName;
  advanced: boolean;
  overrides: Overrides;
  timeLimit: number | null;
  timeUnit: TimeUnit;
  hold: boolean;
}

export const emptyDraft: Draft = {
  name: '',
  model: '',
  source: 'upload',
  dataset: '',
  pasted: '',
  preset: 'balanced',
  advanced: false,
  overrides: {},
  timeLimit: null,
  timeUnit: 'h',
  hold: false,
};

export function isDraft(value: unknown): value is Draft {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(emptyDraft).every(([key, example]) => {
    const stored = (value as Record<string, unknown>)[key];
    return key === 'timeLimit' ? stored === null || typeof stored === 'number' : typeof stored === typeof example;
  });
}

/** The request that the form stands for. */
export function requestOf(draft: Draft): SubmitTask {
  const seconds = draft.timeLimit === null ? null : Math.round(draft.timeLimit * (draft.timeUnit === 'h' ? 3600 : 60));
  return {
    ...(draft.name.trim() ? { name: draft.name.trim() } : {}),
    fine_tune: {
      model_name: draft.model.trim(),
      dataset_file: draft.dataset.trim(),
      preset: draft.preset,
      // Fields that are out of sight do not act.
      ...(draft.advanced ? draft.overrides : {}),
    },
    ...(seconds === null ? {} : { time_limit_seconds: seconds }),
    ...(draft.advanced && draft.hold ? { hold: true } : {}),
  };
}

const OVERRIDES: Record<keyof Overrides, 'number' | 'boolean' | 'string'> = {
  num_epochs: 'number',
  batch_size: 'number',
  gradient_accumulation_steps: 'number',
  learning_rate: 'number',
  max_length: 'number',
  load_in_8bit: 'boolean',
  lora_rank: 'number',
  lora_alpha: 'number',
  warmup_ratio: 'number',
  schedule: 'string',
  weight_decay: 'number',
  max_grad_norm: 'number',
  seed: 'number',
  validation_split: 'number',
  checkpoint_every_steps: 'number',
};

/** A form filled with an earlier task's recipe, every value spelled out. */
export function draftOf(task: TaskView): Draft {
  const known = Object.entries(OVERRIDES).filter(([key, type]) => typeof task.config[key] === type);
  const minutes = task.time_limit_seconds / 60;
  return {
    ...emptyDraft,
    name: task.name ?? '',
    model: task.model_name,
    source: 'choose',
    dataset: task.dataset_path ?? '',
    advanced: true,
    overrides: Object.fromEntries(known.map(([key]) => [key, task.config[key]])),
    timeLimit: minutes % 60 === 0 ? minutes / 60 : minutes,
    timeUnit: minutes % 60 === 0 ? 'h' : 'min',
  };
}
