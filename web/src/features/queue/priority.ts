import type { TextKey } from '../../i18n';

export type Priority = 'low' | 'normal' | 'high' | 'urgent';

/** The word and the colour of each class, the last first to start. */
export const PRIORITIES: Record<Priority, { text: TextKey; color: string }> = {
  low: { text: 'priority.low', color: 'default' },
  normal: { text: 'priority.normal', color: 'default' },
  high: { text: 'priority.high', color: 'orange' },
  urgent: { text: 'priority.urgent', color: 'red' },
};

export const isPriority = (value: unknown): value is Priority =>
  typeof value === 'string' && Object.hasOwn(PRIORITIES, value);
