import type { TaskStatus } from '../../api/types';
import type { TextKey } from '../../i18n';

/** The word and the colour of each state, in the order in which a task goes through them. */
export const STATUSES: Record<TaskStatus, { text: TextKey; color: string }> = {
  pending: { text: 'status.pending', color: 'default' },
  queued: { text: 'status.queued', color: 'gold' },
  preparing: { text: 'status.preparing', color: 'cyan' },
  training: { text: 'status.training', color: 'blue' },
  completed: { text: 'status.completed', color: 'green' },
  failed: { text: 'status.failed', color: 'red' },
  cancelled: { text: 'status.cancelled', color: 'default' },
};

export const isStatus = (value: unknown): value is TaskStatus =>
  typeof value === 'string' && Object.hasOwn(STATUSES, value);

export const isRunning = (status: TaskStatus) => status === 'preparing' || status === 'training';

export const isFinal = (status: TaskStatus) => status === 'completed' || status === 'failed' || status === 'cancelled';
