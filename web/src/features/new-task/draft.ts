import type { FineTunePatch, FineTuneRequest, SubmitTask, TaskView } from '../../api/types';
import { isPriority, type Priority } from '../queue/priority';

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
  priority: Priority;
  /** Ids of tasks that have to end first. */
  after: string[];
  /** They may end in any way; else they must complete. */
  afterAny: boolean;
  /** Where it does not fit, the studio may take the nearest configuration that does. */
  fit: boolean;
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
  priority: 'normal',
  after: [],
  afterAny: false,
  fit: false,
};

export function isDraft(value: unknown): value is Draft {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(emptyDraft).every(([key, example]) => {
    const stored = (value as Record<string, unknown>)[key];
    if (key === 'priority') return isPriority(stored);
    if (key === 'after') return Array.isArray(stored) && stored.every(STRING);
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
    ...(draft.advanced && draft.priority !== 'normal' ? { priority: draft.priority } : {}),
    ...(draft.advanced && draft.after.length > 0
      ? { after: draft.after.map((id) => (draft.afterAny ? `${id},any` : id)) }
      : {}),
    ...(draft.advanced && draft.hold ? { hold: true } : {}),
    ...(draft.advanced && draft.fit ? { fit: true } : {}),
  };
}

/** The form with another configuration, whose fields are then in sight. */
export function patched(draft: Draft, patch: FineTunePatch): Draft {
  const changes = Object.entries(patch).filter(([, value]) => value !== null && value !== undefined);
  return { ...draft, advanced: true, overrides: { ...draft.overrides, ...Object.fromEntries(changes) } };
}

/** The form with a whole recipe; a data set that it does not name stays. */
export function withRequest(draft: Draft, request: FineTuneRequest): Draft {
  const { model_name, dataset_file, preset, ...fields } = request;
  const filled = patched({ ...draft, model: model_name, overrides: {} }, fields as FineTunePatch);
  if (preset === 'safe' || preset === 'balanced' || preset === 'fast') filled.preset = preset;
  return dataset_file ? { ...filled, source: 'choose', dataset: dataset_file } : filled;
}

const NUMBER = (value: unknown) => typeof value === 'number';
const BOOLEAN = (value: unknown) => typeof value === 'boolean';
const STRING = (value: unknown) => typeof value === 'string';
const NAMES = (value: unknown) => Array.isArray(value) && value.length > 0 && value.every(STRING);

/** Which values of a task's configuration can be put into the form. */
const OVERRIDES: Record<keyof Overrides, (value: unknown) => boolean> = {
  trainer: STRING,
  method: STRING,
  objective: STRING,
  num_epochs: NUMBER,
  batch_size: NUMBER,
  gradient_accumulation_steps: NUMBER,
  learning_rate: NUMBER,
  max_length: NUMBER,
  load_in_8bit: BOOLEAN,
  load_in_4bit: BOOLEAN,
  allow_quantization: BOOLEAN,
  gradient_checkpointing: BOOLEAN,
  loss: STRING,
  lora_rank: NUMBER,
  lora_alpha: NUMBER,
  lora_targets: NAMES,
  warmup_ratio: NUMBER,
  schedule: STRING,
  weight_decay: NUMBER,
  max_grad_norm: NUMBER,
  seed: NUMBER,
  validation_split: NUMBER,
  checkpoint_every_steps: NUMBER,
  gpus: NUMBER,
  parallelism: STRING,
};

/** A form filled with an earlier task's recipe, every value spelled out. */
export function draftOf(task: TaskView): Draft {
  const known = Object.entries(OVERRIDES).filter(([key, fits]) => fits(task.config[key]));
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
    priority: isPriority(task.priority) ? task.priority : 'normal',
  };
}
