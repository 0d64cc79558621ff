import type { FineTunePatch, FineTuneRequest, SubmitGroup, SubmitTask, TaskView } from '../../api/types';
import { isPriority, type Priority } from '../queue/priority';
import { splitLine } from './commandLine';
import { overOf, type SweepLine, sweepSize } from './sweep';

/** The fields behind the Advanced switch; what is not set follows the preset or the studio's default. */
export type Overrides = Omit<FineTuneRequest, 'model_name' | 'dataset_file' | 'preset'>;

export type DatasetSource = 'upload' | 'paste' | 'choose';
export type PresetName = 'safe' | 'balanced' | 'fast';
export type TimeUnit = 'h' | 'min';
export type DraftKind = 'fine_tune' | 'command';

const GIB = 1024 ** 3;

/** What is in the create form, kept over a reload. */
export interface Draft {
  kind: DraftKind;
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
  /** As the browser's own fields have times: local, `2026-01-31T22:00`, or empty. */
  startAfter: string;
  deadline: string;
  retries: number | null;
  sweep: SweepLine[];
  /** Program and arguments in one line. */
  line: string;
  cwd: string;
  gpus: number | null;
  /** On each GPU; unknown: it gets them to itself. */
  memoryGib: number | null;
  share: boolean;
}

export const emptyDraft: Draft = {
  kind: 'fine_tune',
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
  startAfter: '',
  deadline: '',
  retries: null,
  sweep: [],
  line: '',
  cwd: '',
  gpus: null,
  memoryGib: null,
  share: false,
};

const isSweepLine = (value: unknown): value is SweepLine => {
  const { field, values } = (value ?? {}) as Partial<SweepLine>;
  return typeof field === 'string' && Array.isArray(values) && values.every(STRING);
};

export function isDraft(value: unknown): value is Draft {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(emptyDraft).every(([key, example]) => {
    const stored = (value as Record<string, unknown>)[key];
    if (key === 'priority') return isPriority(stored);
    if (key === 'after') return Array.isArray(stored) && stored.every(STRING);
    if (key === 'sweep') return Array.isArray(stored) && stored.every(isSweepLine);
    return example === null ? stored === null || typeof stored === 'number' : typeof stored === typeof example;
  });
}

export const isModelMissing = ({ model }: Draft) => model.trim() === '';

export const isDatasetMissing = ({ dataset, source, pasted }: Draft) =>
  dataset.trim() === '' && !(source === 'paste' && pasted.trim() !== '');

/** The request that the form stands for, or that each of a sweep's tasks is made from. */
export function requestOf(draft: Draft): SubmitTask {
  const seconds = draft.timeLimit === null ? null : Math.round(draft.timeLimit * (draft.timeUnit === 'h' ? 3600 : 60));
  return {
    ...(draft.name.trim() ? { name: draft.name.trim() } : {}),
    ...(draft.kind === 'command' ? { command: commandOf(draft) } : { fine_tune: fineTuneOf(draft) }),
    ...(seconds === null ? {} : { time_limit_seconds: seconds }),
    // Fields that are out of sight do not act.
    ...(draft.advanced ? termsOf(draft) : {}),
  };
}

/** The request for a group, where the form asks for one. */
export function groupOf(draft: Draft): SubmitGroup | null {
  if (!draft.advanced || sweepSize(draft.sweep) === 0) return null;
  return { task: requestOf(draft), over: overOf(draft.sweep, draft.kind) };
}

function fineTuneOf(draft: Draft): FineTuneRequest {
  return {
    model_name: draft.model.trim(),
    dataset_file: draft.dataset.trim(),
    preset: draft.preset,
    ...(draft.advanced ? draft.overrides : {}),
  };
}

function commandOf({ line, cwd, gpus, memoryGib, share }: Draft): NonNullable<SubmitTask['command']> {
  return {
    argv: splitLine(line) ?? [],
    cwd: cwd.trim(),
    ...(gpus === null ? {} : { gpus }),
    ...(memoryGib === null ? {} : { memory_bytes: Math.round(memoryGib * GIB), share }),
  };
}

/** When the tasks may start, and what becomes of them if they fail. */
function termsOf(draft: Draft): Partial<SubmitTask> {
  const { priority, after, afterAny, startAfter, deadline, retries, hold, fit, kind } = draft;
  return {
    ...(priority !== 'normal' ? { priority } : {}),
    ...(after.length > 0 ? { after: after.map((id) => (afterAny ? `${id},any` : id)) } : {}),
    ...(startAfter ? { start_after: new Date(startAfter).toISOString() } : {}),
    ...(deadline ? { deadline: new Date(deadline).toISOString() } : {}),
    ...(retries === null ? {} : { retries }),
    ...(hold ? { hold: true } : {}),
    ...(fit && kind === 'fine_tune' ? { fit: true } : {}),
  };
}

/** The form with another configuration, whose fields are then in sight. */
export function patched(draft: Draft, patch: FineTunePatch): Draft {
  const changes = Object.entries(patch).filter(([, value]) => value !== null && value !== undefined);
  return {
    ...draft,
    kind: 'fine_tune',
    advanced: true,
    overrides: { ...draft.overrides, ...Object.fromEntries(changes) },
  };
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
  keep_checkpoints: NUMBER,
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
    retries: task.retries,
  };
}
