import type { BreakdownView, DeviceView, EstimateView } from '../../api/types';
import type { TextKey } from '../../i18n';

type PartKey = keyof BreakdownView;

/** In the order in which they come into being. */
export const PARTS: { key: PartKey; text: TextKey }[] = [
  { key: 'weights', text: 'part.weights' },
  { key: 'adapters', text: 'part.adapters' },
  { key: 'gradients', text: 'part.gradients' },
  { key: 'optimizer', text: 'part.optimizer' },
  { key: 'activations', text: 'part.activations' },
  { key: 'logits', text: 'part.logits' },
  { key: 'workspace', text: 'part.workspace' },
  { key: 'slack', text: 'part.slack' },
  { key: 'context', text: 'part.context' },
];

/** An estimate laid against a card; the spans add up to `scale`. All in bytes. */
export interface FitPicture {
  /** What the whole bar stands for: the card, or more where that is not enough. */
  scale: number;
  /** Where the card ends. */
  total: number;
  /** Not to be had now: in use, reserved, promised to other tasks. */
  taken: number;
  /** What the training is expected to use. */
  footprint: number;
  /** Granted on top, as a margin. */
  margin: number;
  /** Left over afterwards. */
  free: number;
  /** Short of the grant now. */
  missing: number;
}

/** `null` where it is not known what the card has free. */
export function fitPicture(estimate: EstimateView, device: DeviceView): FitPicture | null {
  const { memory, free_for_tasks_bytes } = device;
  if (!memory || free_for_tasks_bytes === null) return null;
  const taken = Math.max(0, memory.total - free_for_tasks_bytes);
  const footprint = estimate.footprint_bytes;
  const margin = Math.max(0, estimate.grant_bytes - footprint);
  const wanted = taken + footprint + margin;
  return {
    scale: Math.max(memory.total, wanted),
    total: memory.total,
    taken,
    footprint,
    margin,
    free: Math.max(0, memory.total - wanted),
    missing: Math.max(0, wanted - memory.total),
  };
}

/** The device with the most memory for a new task; of equals the first, a GPU before the CPU. */
export function roomiest(devices: DeviceView[]): DeviceView | null {
  const room = (device: DeviceView) => device.free_for_tasks_bytes ?? -1;
  const gpus = devices.filter(({ kind }) => kind !== 'cpu');
  const candidates = (gpus.length > 0 ? gpus : devices).filter(({ memory }) => memory !== null);
  return candidates.reduce<DeviceView | null>(
    (best, device) => (best === null || room(device) > room(best) ? device : best),
    null,
  );
}

/** How far a measurement is from what was expected, in percent: `+3`, `-12`. */
export function deviation(expected: number, measured: number): string | null {
  if (expected <= 0) return null;
  const percent = Math.round((100 * (measured - expected)) / expected);
  return percent > 0 ? `+${percent}` : String(percent);
}
