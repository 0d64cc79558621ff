import type { StudioEvent, TaskView } from './types';

type NumberedEvent = Extract<StudioEvent, { type: 'task' | 'removed' }>;

const KEPT = 1000;

/**
 * The events of the last moments. An answer that was under way while an event arrived is older than the event: it is
 * brought up to date from here before it is shown.
 */
export class RecentEvents {
  private events: NumberedEvent[] = [];
  /** The number of the newest one. */
  lastId = 0;

  add(event: StudioEvent): void {
    if (event.type === 'resync') this.events = [];
    if ('id' in event) this.lastId = event.id;
    if (event.type !== 'task' && event.type !== 'removed') return;
    this.events.push(event);
    if (this.events.length > 2 * KEPT) this.events = this.events.slice(-KEPT);
  }

  after(id: number): NumberedEvent[] {
    return this.events.filter((event) => event.id > id);
  }

  lastOf(taskId: string): TaskView | null {
    const last = this.events.findLast((event) => event.type === 'task' && event.task.task_id === taskId);
    return last?.type === 'task' ? last.task : null;
  }
}
