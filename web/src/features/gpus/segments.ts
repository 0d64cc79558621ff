import type { DeviceView, ProcessView } from '../../api/types';

/**
 * - `task`: held by one of our tasks; `promised`: the rest of its grant
 * - `service`, `foreign`: held by an inference service, by any other program
 * - `unattributed`: in use, by no process that can be seen
 * - `unclear`: the driver does not say what it is
 * - `reserved`: by driver and firmware
 */
export type SegmentKind =
  | 'task'
  | 'promised'
  | 'service'
  | 'foreign'
  | 'unattributed'
  | 'unclear'
  | 'reserved'
  | 'free';

export interface Segment {
  kind: SegmentKind;
  key: string;
  /** `null`: unknown. */
  bytes: number | null;
  /** Its width on the bar, in bytes. Those of a device add up to its memory. */
  span: number;
  taskId?: string;
  /** Of a task: what it was promised; `null`: the whole device; missing: nothing. */
  grant?: number | null;
  /** Whose memory it is, where processes are known. */
  processes: ProcessView[];
}

export interface MemoryPicture {
  segments: Segment[];
  /** Promised to tasks, and taken by others meanwhile. */
  missing: number;
}

/** What a device's memory consists of, in the order of the bar; `null` where it could not be read. */
export function memoryPicture(device: DeviceView): MemoryPicture | null {
  const { memory } = device;
  if (!memory || memory.total <= 0) return null;
  // Figures are read one after the other: they may contradict each other a little, the bar must not.
  let room = memory.total;
  let inUse = Math.min(memory.used, room);
  let free = Math.min(memory.free, room - inUse);
  let missing = 0;
  const segments: Segment[] = [];
  const add = (segment: Omit<Segment, 'processes'> & { processes?: ProcessView[] }) => {
    segments.push({ processes: [], ...segment });
    room -= segment.span;
  };
  const hold = (bytes: number | null) => {
    const span = Math.min(bytes ?? 0, inUse);
    inUse -= span;
    return span;
  };

  for (const taskId of taskIds(device)) {
    const processes = device.processes.filter((process) => process.task_id === taskId);
    const grant = device.grants.find((promise) => promise.task_id === taskId)?.bytes;
    const bytes = processes.length === 0 && hidesProcesses(device) ? null : heldBytes(processes);
    add({ kind: 'task', key: taskId, bytes, span: hold(bytes), taskId, grant, processes });
    if (grant === undefined) continue;
    // What a task is not seen to hold is kept for it.
    const rest = grant === null ? free : Math.max(0, grant - (bytes ?? 0));
    if (rest === 0) continue;
    const span = Math.min(rest, free);
    free -= span;
    if (bytes !== null) missing += rest - span;
    add({ kind: 'promised', key: `${taskId} promised`, bytes: bytes === null ? null : rest, span, taskId, grant });
  }
  for (const kind of ['service', 'foreign'] as const) {
    const others = device.processes
      .filter((process) => process.task_id === null && (kind === 'service') === (process.service !== null))
      .sort((a, b) => (b.bytes ?? -1) - (a.bytes ?? -1));
    for (const process of others) {
      const { pid, bytes } = process;
      add({ kind, key: `pid ${pid}`, bytes, span: hold(bytes), processes: [process] });
    }
  }
  if (inUse > 0) {
    const kind = device.unattributed_bytes === null ? 'unclear' : 'unattributed';
    add({ kind, key: 'in use', bytes: inUse, span: inUse });
  }
  const { reserved } = memory;
  if (reserved) add({ kind: 'reserved', key: 'reserved', bytes: reserved, span: Math.min(reserved, room - free) });
  const rest = room - free;
  if (rest > 0) add({ kind: 'unclear', key: 'rest', bytes: rest, span: rest });
  add({ kind: 'free', key: 'free', bytes: free, span: free });
  return { segments, missing };
}

/** Those that were promised memory first, then those that hold some without. */
function taskIds(device: DeviceView): string[] {
  const holders = device.processes.flatMap(({ task_id }) => (task_id === null ? [] : [task_id]));
  return [...new Set([...device.grants.map(({ task_id }) => task_id), ...holders])];
}

/** Something is in use there and nobody is seen to use it: that may be any task. */
const hidesProcesses = ({ memory, unattributed_bytes }: DeviceView) =>
  unattributed_bytes === null ? (memory?.used ?? 0) > 0 : unattributed_bytes > 0;

/** Together; `null` where one of them hides its own. */
function heldBytes(processes: ProcessView[]): number | null {
  let sum = 0;
  for (const { bytes } of processes) {
    if (bytes === null) return null;
    sum += bytes;
  }
  return sum;
}

/** A GPU, or all MIG instances of one. */
export interface DeviceGroup {
  key: string;
  /** The GPU that is split; `null`: it is not. */
  parent: string | null;
  devices: DeviceView[];
}

/** In the order of the listing. */
export function grouped(devices: DeviceView[]): DeviceGroup[] {
  const groups = new Map<string, DeviceGroup>();
  for (const device of devices) {
    const parent = device.mig?.parent ?? null;
    const key = parent ?? device.id;
    const group = groups.get(key) ?? { key, parent, devices: [] };
    group.devices.push(device);
    groups.set(key, group);
  }
  return [...groups.values()];
}
