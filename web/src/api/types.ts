/** Shapes of `/api/v1`: bytes, seconds, ISO 8601 in UTC; `null` is unknown. The one place that names them for the page. */

export type TaskStatus = 'pending' | 'queued' | 'preparing' | 'training' | 'completed' | 'failed' | 'cancelled';

/** A text in both first languages. */
export interface Bilingual {
  zh: string;
  en: string;
}

export interface Message extends Bilingual {
  code: string;
}

export interface ErrorBody {
  detail: string;
  code: string;
  /** The same in Chinese with what to do about it, where `detail` is English. */
  zh?: string | null;
  next_step?: string | null;
}

export interface FetchView {
  bytes: number;
  total_bytes: number | null;
}

export interface ProgressView {
  /** 0 to 100. */
  percent: number;
  epoch: number;
  total_epochs: number;
  step: number;
  total_steps: number;
  loss: number | null;
  learning_rate: number | null;
  grad_norm: number | null;
  tokens_per_second: number | null;
  memory_bytes: number | null;
  /** Set while the model is being fetched. */
  fetch: FetchView | null;
}

export interface WaitView extends Bilingual {
  code: string;
  /** 1 for the task that starts next. */
  position: number;
  running: string | null;
}

export interface AttemptView {
  number: number;
  devices: string[];
  pid: number | null;
}

export interface TaskView {
  task_id: string;
  name: string | null;
  owner: string;
  status: TaskStatus;
  created_at: string;
  started_at: string | null;
  completed_at: string | null;
  time_limit_seconds: number;
  trainer: string;
  model_name: string;
  dataset_path: string | null;
  output_dir: string;
  config: Record<string, unknown>;
  progress: ProgressView;
  wait: WaitView | null;
  failure: Message | null;
  attempt: AttemptView | null;
  warnings: Message[];
  downloadable: boolean;
}

export interface TaskPage {
  tasks: TaskView[];
  next_before: string | null;
  counts: Partial<Record<TaskStatus, number>>;
  last_event_id: number;
}

export interface JournalEntry {
  seq: number;
  at: string;
  task_id: string;
  who: string;
  from: string | null;
  to: string;
  why: string;
}

export interface MetricPoint {
  step: number;
  epoch: number;
  loss: number;
  learning_rate: number | null;
  grad_norm: number | null;
  tokens_per_second: number | null;
  memory_bytes: number | null;
}

export interface EvalPoint {
  step: number;
  loss: number;
}

export interface Metrics {
  train: MetricPoint[];
  eval: EvalPoint[];
}

export interface MemoryView {
  total: number;
  reserved: number | null;
  used: number;
  free: number;
}

export interface ProcessView {
  pid: number;
  name: string | null;
  user: string | null;
  bytes: number | null;
}

export interface DeviceView {
  id: string;
  kind: string;
  index: number;
  name: string;
  memory: MemoryView | null;
  utilisation_percent: number | null;
  temperature_celsius: number | null;
  power_watts: number | null;
  processes: ProcessView[];
  unusable: Message | null;
  task_id: string | null;
}

export interface Devices {
  detecting: boolean;
  age_seconds: number;
  devices: DeviceView[];
  simulated: boolean;
  recommendation: string;
  findings: Message[];
}

export interface ExamplePreview {
  prompt: string;
  answer: string;
}

export interface DatasetView {
  path: string;
  filename: string;
  bytes: number;
  format: string | null;
  examples: number | null;
  uploaded_at: string;
  preview: ExamplePreview[];
}

export interface ModelView {
  name: string;
  type: string;
  source: string;
  description: string;
  bytes: number | null;
  task_id: string | null;
  created_at: string | null;
}

export interface Preset {
  name: string;
  title_zh: string;
  title_en: string;
  num_epochs: number;
  batch_size: number;
  gradient_accumulation_steps: number;
  learning_rate: number;
  max_length: number;
  lora_rank: number;
  lora_alpha: number;
}

export interface StudioView {
  version: string;
  home: string;
  pid: number;
  started_at: string;
  default_time_limit_seconds: number;
  queue_warning: number;
  upload_limit_bytes: number;
  authentication: boolean;
}

export interface FineTuneRequest {
  model_name: string;
  dataset_file: string;
  preset?: string;
  num_epochs?: number;
  batch_size?: number;
  gradient_accumulation_steps?: number;
  learning_rate?: number;
  max_length?: number;
  load_in_8bit?: boolean;
  lora_rank?: number;
  lora_alpha?: number;
  warmup_ratio?: number;
  schedule?: string;
  weight_decay?: number;
  max_grad_norm?: number;
  seed?: number;
  validation_split?: number;
  checkpoint_every_steps?: number;
}

export interface SubmitTask {
  name?: string;
  fine_tune: FineTuneRequest;
  time_limit_seconds?: number;
  hold?: boolean;
}

export interface QueueEntry {
  task_id: string;
  wait: WaitView;
}

/** What `/api/v1/events` brings, tagged with the event's name. */
export type StudioEvent =
  | { type: 'task'; id: number; task: TaskView }
  | { type: 'removed'; id: number; task_id: string }
  | { type: 'progress'; task_id: string; progress: ProgressView }
  | { type: 'queue'; waiting: QueueEntry[]; total: number; long: boolean }
  | { type: 'devices'; devices: Devices }
  | { type: 'resync'; id: number };

export interface LogChunk {
  offset: number;
  text: string;
}
