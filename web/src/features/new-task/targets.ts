import type { FineTuneRequest } from '../../api/types';

type Targets = FineTuneRequest['lora_targets'];

/** `all`, `qv`, or names with commas between them; nothing: the default. */
export function targetsOf(text: string): Targets | null {
  const names = text.split(/[\s,，]+/).filter(Boolean);
  if (names.length === 0) return null;
  return names.length === 1 && (names[0] === 'all' || names[0] === 'qv') ? names[0] : names;
}

export function targetText(targets: Targets): string {
  return Array.isArray(targets) ? targets.join(', ') : (targets ?? '');
}
