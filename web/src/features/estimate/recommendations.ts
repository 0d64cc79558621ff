import type { Recommendation } from '../../api/types';
import type { MethodChoice } from '../new-task/methods';

/** A model with what each method comes to. */
export interface FitRow {
  model: string;
  parameters: number | null;
  methods: Partial<Record<MethodChoice, Recommendation>>;
}

/** All GPUs together. */
export const TOGETHER = '';

/** The devices that are spoken of, in their order. */
export function targetsIn(recommendations: Recommendation[]): string[] {
  return [...new Set(recommendations.map(({ device }) => device ?? TOGETHER))];
}

/** What is said of one of them, a row for each model; those that cannot be trained there at all come last. */
export function fitRows(recommendations: Recommendation[], target: string | null): FitRow[] {
  const rows = new Map<string, FitRow>();
  for (const found of recommendations) {
    if ((found.device ?? TOGETHER) !== target) continue;
    const { model_name: model, parameters } = found;
    const row = rows.get(model) ?? { model, parameters, methods: {} };
    row.methods[found.method as MethodChoice] = found;
    rows.set(model, row);
  }
  const hopeless = ({ methods }: FitRow) =>
    Object.values(methods).every(({ verdict }) => verdict.code === 'does_not_fit');
  return [...rows.values()].sort((a, b) => Number(hopeless(a)) - Number(hopeless(b)));
}
