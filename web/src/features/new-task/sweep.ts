import type { TextKey } from '../../i18n';

/** A parameter and the values that it takes, as typed. */
export interface SweepLine {
  field: string;
  values: string[];
}

/** The studio takes no larger group. */
export const LARGEST_SWEEP = 1000;

interface Parameter {
  text: TextKey;
  number: boolean;
}

/** The fields of a fine-tune that people vary. */
export const PARAMETERS: Record<string, Parameter> = {
  learning_rate: { text: 'field.learning_rate', number: true },
  lora_rank: { text: 'field.lora_rank', number: true },
  lora_alpha: { text: 'field.lora_alpha', number: true },
  num_epochs: { text: 'field.num_epochs', number: true },
  batch_size: { text: 'field.batch_size', number: true },
  gradient_accumulation_steps: { text: 'field.gradient_accumulation_steps', number: true },
  max_length: { text: 'field.max_length', number: true },
  seed: { text: 'field.seed', number: true },
  warmup_ratio: { text: 'field.warmup_ratio', number: true },
  weight_decay: { text: 'field.weight_decay', number: true },
  max_grad_norm: { text: 'field.max_grad_norm', number: true },
  schedule: { text: 'field.schedule', number: false },
  model_name: { text: 'form.model', number: false },
  dataset_file: { text: 'form.dataset', number: false },
};

/** Those of the values that are no number where a fine-tune wants one. */
export function wrongValues({ field, values }: SweepLine): string[] {
  return PARAMETERS[field]?.number ? values.filter((text) => !isNumber(text)) : [];
}

const isNumber = (text: string) => text.trim() !== '' && Number.isFinite(Number(text));

/** Lines that say something: one that has no name or no values yet does not act. */
const complete = (lines: SweepLine[]) => lines.filter(({ field, values }) => field.trim() !== '' && values.length > 0);

/** How many tasks these make: one for each combination; 0 where nothing varies. */
export function sweepSize(lines: SweepLine[]): number {
  const acting = complete(lines);
  return acting.length === 0 ? 0 : acting.reduce((size, { values }) => size * values.length, 1);
}

/** `over` of the request: numbers where the field of a fine-tune is one, else, as in a command, the text as typed. */
export function overOf(lines: SweepLine[], kind: 'fine_tune' | 'command'): Record<string, (string | number)[]> {
  const isNumeric = (field: string) => kind === 'fine_tune' && PARAMETERS[field]?.number;
  return Object.fromEntries(
    complete(lines).map(({ field, values }) => [
      field.trim(),
      isNumeric(field) ? values.map(Number) : values.map((text) => text.trim()),
    ]),
  );
}
