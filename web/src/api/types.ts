import type { components } from './schema';

/** What the page says of `/api/v1`: the shapes of openapi.json, bytes, seconds, ISO 8601 in UTC. */
type Schemas = components['schemas'];

/** The studio sends every field, `null` where it is unknown; the description calls those optional. */
type Sent<T> = T extends (infer Item)[]
  ? Sent<Item>[]
  : T extends object
    ? { [Key in keyof T]-?: Sent<Exclude<T[Key], undefined>> }
    : T;

export type TaskStatus = 'pending' | 'queued' | 'preparing' | 'training' | 'completed' | 'failed' | 'cancelled';

/** A text in both first languages. */
export interface Bilingual {
  zh: string;
  en: string;
}

export interface TaskView extends Sent<Omit<Schemas['TaskView'], 'status' | 'config'>> {
  status: TaskStatus;
  /** The recipe in full, with the defaults that were filled in. */
  config: Record<string, unknown>;
}

export interface TaskPage extends Sent<Omit<Schemas['TaskPage'], 'tasks' | 'counts'>> {
  /** Newest first. */
  tasks: TaskView[];
  /** How many tasks there are in each state. */
  counts: Partial<Record<TaskStatus, number>>;
}

/** The answer to a submission. */
export interface CreatedTask extends TaskView {
  alternatives: AlternativeView[];
}

/** Tasks that were submitted as one, in the group's order. */
export interface GroupView extends Sent<Omit<Schemas['GroupView'], 'tasks'>> {
  tasks: TaskView[];
}

/** The answer to the submission of a group. */
export interface CreatedGroup extends Sent<Omit<Schemas['CreatedGroup'], 'tasks'>> {
  tasks: TaskView[];
}

/** What people have switched for the whole queue, and what time switches by itself. */
export type QueueControl = Sent<Schemas['QueueControl']>;
export type QueueView = QueueControl & Sent<Omit<Schemas['QueueView'], keyof QueueControl>>;

export type Me = Sent<Schemas['Me']>;
export type Quota = Sent<Schemas['Quota']>;
export type AccountView = Sent<Schemas['AccountView']>;
export type NewAccount = Schemas['NewAccount'];
export type AccountPatch = Partial<Schemas['AccountPatch']>;
export type TokenView = Sent<Schemas['TokenView']>;
export type NewToken = Schemas['NewToken'];
export type CreatedToken = TokenView & { secret: string };
export type AuditEntry = Sent<Schemas['AuditEntry']>;
export type AuditPage = Sent<Schemas['AuditPage']>;

export type ProgressView = Sent<Schemas['ProgressView']>;
export type WaitView = Sent<Schemas['WaitView']>;
export type Explanation = Sent<Schemas['Explanation']>;
export type JournalEntry = Sent<Schemas['JournalEntry']>;
export type Metrics = Sent<Schemas['Metrics']>;
export type MetricPoint = Sent<Schemas['MetricPoint']>;
export type Devices = Sent<Schemas['Devices']>;
export type DeviceView = Sent<Schemas['DeviceView']>;
export type ProcessView = Sent<Schemas['ProcessView']>;
export type CheckView = Sent<Schemas['CheckView']>;
export type DatasetView = Sent<Schemas['DatasetView']>;
export type ModelView = Sent<Schemas['ModelView']>;
export type Preset = Sent<Schemas['Preset']>;
export type StudioView = Sent<Schemas['StudioView']>;
export type LogChunk = Sent<Schemas['LogChunk']>;

export type EstimateView = Sent<Schemas['EstimateView']>;
export type BreakdownView = Sent<Schemas['BreakdownView']>;
export type VerdictCode = 'fits_now' | 'fits_when_free' | 'does_not_fit' | 'unknown';

export interface VerdictView extends Bilingual {
  code: VerdictCode;
}

/** Fields of the request to replace; the rest stays. */
export type FineTunePatch = Schemas['FineTunePatch'];

export interface AlternativeView extends Sent<Omit<Schemas['AlternativeView'], 'patch' | 'verdict'>> {
  patch: FineTunePatch;
  verdict: VerdictView;
}

export interface EstimateAnswer extends Sent<Omit<Schemas['EstimateAnswer'], 'alternatives' | 'verdict'>> {
  verdict: VerdictView;
  alternatives: AlternativeView[];
}

export interface Recommendation extends Sent<Omit<Schemas['Recommendation'], 'request' | 'verdict'>> {
  verdict: VerdictView;
  request: FineTuneRequest | null;
}

export interface Recommendations {
  detecting: boolean;
  recommendations: Recommendation[];
}

export type ErrorBody = Schemas['ErrorBody'];
export type SubmitTask = Schemas['SubmitTask'];
export type SubmitGroup = Schemas['SubmitGroup'];
export type FineTuneRequest = Schemas['FineTuneRequest'];

export interface QueueEntry {
  task_id: string;
  wait: WaitView;
}

/** What `/api/v1/events` brings, tagged with the event's name. */
export type StudioEvent =
  | { type: 'task'; id: number; task: TaskView }
  | { type: 'removed'; id: number; task_id: string }
  | { type: 'progress'; task_id: string; progress: ProgressView }
  | ({ type: 'queue'; waiting: QueueEntry[]; total: number; long: boolean } & QueueControl)
  | { type: 'devices'; devices: Devices }
  | { type: 'resync'; id: number };
