import type { TextKey } from '../../i18n';
import type { Overrides } from './draft';

export type MethodChoice = 'lora' | 'qlora8' | 'qlora4' | 'full';

/** What people call it, and the fields of the request it stands for. */
export const METHODS: { key: MethodChoice; text: TextKey; fields: Overrides }[] = [
  { key: 'lora', text: 'method.lora', fields: { method: 'lora', load_in_8bit: false, load_in_4bit: false } },
  { key: 'qlora8', text: 'method.qlora8', fields: { method: 'lora', load_in_8bit: true, load_in_4bit: false } },
  { key: 'qlora4', text: 'method.qlora4', fields: { method: 'lora', load_in_8bit: false, load_in_4bit: true } },
  { key: 'full', text: 'method.full', fields: { method: 'full', load_in_8bit: false, load_in_4bit: false } },
];

/** What these fields come to: left out they mean LoRA on a base of 8 bits. */
export function methodOf({ method, load_in_8bit, load_in_4bit }: Overrides): MethodChoice {
  if (method === 'full') return 'full';
  if (load_in_4bit) return 'qlora4';
  return (load_in_8bit ?? true) ? 'qlora8' : 'lora';
}

/** The trainers' names; what is neither of them is a program of somebody's own. */
export function trainerText(trainer: string): TextKey {
  if (trainer === 'builtin') return 'task.builtin';
  return trainer === 'peft' ? 'task.peft' : 'task.command';
}
