import { describe, expect, it } from 'vitest';
import type { DeviceView } from '../src/api/types';
import { deviation, fitPicture, PARTS, roomiest } from '../src/features/estimate/memory';
import { fitRows, targetsIn } from '../src/features/estimate/recommendations';
import { grouped, memoryPicture } from '../src/features/gpus/segments';
import { memoryComparison } from '../src/features/task/memory';
import { device, estimate, GIB, held, memory, progress, task } from './samples';

/** Each part of the bar in GiB: what it says, and how wide it is. */
const parts = (shown: DeviceView) =>
  memoryPicture(shown)?.segments.map(({ kind, bytes, span }) => [
    kind,
    bytes === null ? null : bytes / GIB,
    span / GIB,
  ]);
const spans = (shown: DeviceView) => memoryPicture(shown)?.segments.reduce((sum, { span }) => sum + span, 0);

/** Two tasks, one of which has not used all of its grant; a service, a stranger, and something nobody sees. */
const shared = device({
  memory: memory(18 * GIB),
  grants: [
    { task_id: 'a', bytes: 6 * GIB },
    { task_id: 'b', bytes: 3 * GIB },
  ],
  processes: [
    held(1, 4 * GIB, { task_id: 'a' }),
    held(2, 3 * GIB, { task_id: 'b' }),
    held(3, 2 * GIB),
    held(4, 7 * GIB, { service: 'vLLM' }),
    held(5, GIB),
  ],
  unattributed_bytes: GIB,
});

describe("a device's memory", () => {
  it('is divided among all who have it, and the parts add up', () => {
    expect(parts(shared)).toEqual([
      ['task', 4, 4],
      ['promised', 2, 2],
      ['task', 3, 3],
      ['service', 7, 7],
      ['foreign', 2, 2],
      ['foreign', 1, 1],
      ['unattributed', 1, 1],
      ['reserved', 0.5, 0.5],
      ['free', 3.5, 3.5],
    ]);
    expect(spans(shared)).toBe(24 * GIB);
    expect(memoryPicture(shared)?.missing).toBe(0);
  });

  it('adds up however the figures contradict each other', () => {
    const amounts = [0, 1, 5, 23, 24, 40];
    for (const used of amounts) {
      for (const free of amounts) {
        for (const reserved of [null, 0, 3]) {
          const figures = { total: 24 * GIB, used: used * GIB, free: free * GIB };
          const odd = { ...shared, memory: { ...figures, reserved: reserved === null ? null : reserved * GIB } };
          expect(spans(odd), `${used} ${free} ${reserved}`).toBe(24 * GIB);
          for (const { span } of memoryPicture(odd)?.segments ?? []) expect(span).toBeGreaterThanOrEqual(0);
        }
      }
    }
  });

  it('that is unknown is unknown, not 0', () => {
    expect(memoryPicture(device({ memory: null }))).toBeNull();
    const hidden = device({
      memory: memory(5 * GIB),
      processes: [held(1, null, { task_id: 'a' }), held(2, null), held(3, 2 * GIB)],
      grants: [{ task_id: 'a', bytes: 4 * GIB }],
      unattributed_bytes: null,
    });
    expect(parts(hidden)).toEqual([
      ['task', null, 0],
      ['promised', null, 4],
      ['foreign', 2, 2],
      ['foreign', null, 0],
      ['unclear', 3, 3],
      ['reserved', 0.5, 0.5],
      ['free', 14.5, 14.5],
    ]);
    expect(spans(hidden)).toBe(24 * GIB);
    const noReserve = device({ memory: { total: 24 * GIB, reserved: null, used: 0, free: 23 * GIB } });
    expect(parts(noReserve)).toEqual([
      ['unclear', 1, 1],
      ['free', 23, 23],
    ]);
  });

  it('of a task whose processes are out of sight is unknown, and what it was promised is kept for it', () => {
    const grants = [{ task_id: 'a', bytes: 4 * GIB }];
    const container = device({ memory: memory(3 * GIB), grants, unattributed_bytes: 3 * GIB });
    expect(parts(container)?.slice(0, 3)).toEqual([
      ['task', null, 0],
      ['promised', null, 4],
      ['unattributed', 3, 3],
    ]);
    const starting = device({ memory: memory(3 * GIB), grants, processes: [held(2, 3 * GIB)] });
    expect(parts(starting)?.slice(0, 2)).toEqual([
      ['task', 0, 0],
      ['promised', 4, 4],
    ]);
  });

  it('goes to one task where it was promised whole', () => {
    const whole = device({
      memory: memory(4 * GIB),
      grants: [{ task_id: 'a', bytes: null }],
      processes: [held(1, 4 * GIB, { task_id: 'a' })],
    });
    expect(parts(whole)?.slice(0, 2)).toEqual([
      ['task', 4, 4],
      ['promised', 19.5, 19.5],
    ]);
    expect(parts(whole)?.at(-1)).toEqual(['free', 0, 0]);
  });

  it('tells how much of a promise others have taken', () => {
    const squeezed = device({
      memory: memory(20 * GIB),
      grants: [{ task_id: 'a', bytes: 10 * GIB }],
      processes: [held(1, 2 * GIB, { task_id: 'a' }), held(2, 18 * GIB)],
    });
    expect(memoryPicture(squeezed)?.missing).toBe(4.5 * GIB);
    expect(spans(squeezed)).toBe(24 * GIB);
  });

  it('keeps what a task holds beyond its grant with the task', () => {
    const over = device({
      memory: memory(9 * GIB),
      grants: [{ task_id: 'a', bytes: 8 * GIB }],
      processes: [held(1, 5 * GIB, { task_id: 'a' }), held(2, 4 * GIB, { task_id: 'a' })],
    });
    expect(parts(over)?.map(([kind]) => kind)).toEqual(['task', 'reserved', 'free']);
    expect(parts(over)?.[0]).toEqual(['task', 9, 9]);
  });

  it('of a split GPU stands with its instances', () => {
    const instance = (id: string) =>
      device({ id, mig: { parent: 'GPU-2', profile: '3g.40gb', gpu_instance: 1, compute_instance: 0 } });
    const groups = grouped([device(), instance('MIG-1'), instance('MIG-2'), device({ id: 'GPU-3' })]);
    expect(groups.map(({ parent, devices }) => [parent, devices.length])).toEqual([
      [null, 1],
      ['GPU-2', 2],
      [null, 1],
    ]);
  });
});

describe('an estimate on a card', () => {
  it('fills what is free, and the parts add up', () => {
    const busy = device({ memory: memory(4 * GIB), free_for_tasks_bytes: 12 * GIB });
    const picture = fitPicture(estimate(), busy);
    expect(picture).toEqual({
      ...{ scale: 24 * GIB, total: 24 * GIB, taken: 12 * GIB, footprint: 8 * GIB, margin: 2 * GIB },
      ...{ free: 2 * GIB, missing: 0 },
    });
  });

  it('reaches beyond the end of a card that is too small', () => {
    const small = device({ memory: memory(0, 12 * GIB), free_for_tasks_bytes: 7 * GIB });
    const picture = fitPicture(estimate(), small);
    expect(picture).toMatchObject({ scale: 15 * GIB, total: 12 * GIB, taken: 5 * GIB, free: 0, missing: 3 * GIB });
  });

  it('is not compared with what nobody knows', () => {
    expect(fitPicture(estimate(), device({ memory: null, free_for_tasks_bytes: null }))).toBeNull();
    expect(fitPicture(estimate(), device({ free_for_tasks_bytes: null }))).toBeNull();
  });

  it('is laid against the card with the most room, the CPU only where there is no other', () => {
    const cpu = device({ id: 'cpu', kind: 'cpu', free_for_tasks_bytes: 100 * GIB });
    const full = device({ id: 'full', free_for_tasks_bytes: GIB });
    const lost = device({ id: 'lost', memory: null, free_for_tasks_bytes: null });
    expect(roomiest([lost, cpu, full, device()])?.id).toBe('GPU-1');
    expect(roomiest([cpu])?.id).toBe('cpu');
    expect(roomiest([lost])).toBeNull();
  });

  it('has parts that add up to its footprint', () => {
    const { breakdown, footprint_bytes } = estimate();
    expect(PARTS.map(({ key }) => key).sort()).toEqual(Object.keys(breakdown).sort());
    expect(PARTS.reduce((sum, { key }) => sum + breakdown[key], 0)).toBe(footprint_bytes);
  });
});

describe('expected and measured', () => {
  it('stand on one scale', () => {
    const attempt = { number: 1, devices: ['GPU-1'], grants: [{ device: 'GPU-1', bytes: 11 * GIB }], pid: 1 };
    const part = { estimate: estimate(), attempt, progress: progress({ peak_bytes: 12 * GIB }) };
    const compared = memoryComparison(task(1, 'training', part));
    expect(compared).toMatchObject({ grant: 11 * GIB, peak: 12 * GIB, expected: { footprint: 8 * GIB } });
    expect(compared?.scale).toBeGreaterThan(12 * GIB);
  });

  it('are left out where nothing is known', () => {
    expect(memoryComparison(task(1, 'queued'))).toBeNull();
    expect(memoryComparison(task(1, 'queued', { estimate: estimate() }))?.peak).toBeNull();
  });

  it('differ by so much', () => {
    expect([deviation(100, 103), deviation(100, 88), deviation(100, 100.2), deviation(0, 5)]).toEqual([
      '+3',
      '-12',
      '0',
      null,
    ]);
  });
});

describe('what fits', () => {
  it('has a row for each model on the device that was chosen', () => {
    const found = (on: string | null, model_name: string, method: string) => ({
      ...{ device: on, gpus: 1, model_name, parameters: 1e9, method, estimate: null, request: null },
      ...{ largest_max_length: null, largest_batch_size: null },
      verdict: { code: 'does_not_fit' as const, zh: '放不下', en: 'No' },
    });
    const all = [found('GPU-1', 'm', 'lora'), found('GPU-1', 'm', 'full'), found(null, 'n', 'lora')];
    expect(targetsIn(all)).toEqual(['GPU-1', '']);
    const fits = { ...found('GPU-1', 'small', 'lora'), verdict: { code: 'fits_now' as const, zh: '', en: '' } };
    expect(fitRows([...all, fits], 'GPU-1').map(({ model }) => model)).toEqual(['small', 'm']);
    expect(fitRows(all, 'GPU-1').map(({ model, methods }) => [model, Object.keys(methods)])).toEqual([
      ['m', ['lora', 'full']],
    ]);
    expect(fitRows(all, '')).toHaveLength(1);
    expect(fitRows(all, null)).toEqual([]);
  });
});
