import { Form, InputNumber, Select, Switch } from 'antd';
import { useTranslation } from 'react-i18next';
import type { Preset } from '../../api/types';
import type { TextKey } from '../../i18n';
import { formatRate } from '../../shared/format';
import { useDraft } from './DraftProvider';
import type { Overrides } from './draft';

type NumberKey = Exclude<keyof Overrides, 'load_in_8bit' | 'schedule'>;

interface NumberField {
  key: NumberKey;
  text: TextKey;
  min: number;
  max?: number;
  step: number;
  /** What the studio takes where no preset says; none: the trainer's choice. */
  fallback?: number;
}

const FIELDS: NumberField[] = [
  { key: 'num_epochs', text: 'field.num_epochs', min: 1, max: 1000, step: 1 },
  { key: 'learning_rate', text: 'field.learning_rate', min: 0, step: 1e-5 },
  { key: 'batch_size', text: 'field.batch_size', min: 1, step: 1 },
  { key: 'gradient_accumulation_steps', text: 'field.gradient_accumulation_steps', min: 1, step: 1 },
  { key: 'max_length', text: 'field.max_length', min: 16, step: 128 },
  { key: 'lora_rank', text: 'field.lora_rank', min: 1, max: 1024, step: 1 },
  { key: 'lora_alpha', text: 'field.lora_alpha', min: 0, step: 1 },
  { key: 'warmup_ratio', text: 'field.warmup_ratio', min: 0, max: 0.9, step: 0.01, fallback: 0.03 },
  { key: 'weight_decay', text: 'field.weight_decay', min: 0, step: 0.01, fallback: 0 },
  { key: 'max_grad_norm', text: 'field.max_grad_norm', min: 0, step: 0.1, fallback: 1 },
  { key: 'validation_split', text: 'field.validation_split', min: 0, max: 0.5, step: 0.05, fallback: 0 },
  { key: 'seed', text: 'field.seed', min: 0, step: 1, fallback: 42 },
  { key: 'checkpoint_every_steps', text: 'field.checkpoint_every_steps', min: 1, step: 10 },
];

/** Every hyper-parameter; an empty field follows the preset, whose value it shows. */
export function AdvancedFields({ preset }: { preset: Preset | undefined }) {
  const { t } = useTranslation();
  const { draft, change } = useDraft();
  const { overrides } = draft;
  const set = <K extends keyof Overrides>(key: K, value: Overrides[K] | null) => {
    const { [key]: _old, ...others } = overrides;
    change({ overrides: value === null || value === undefined ? others : { ...others, [key]: value } });
  };
  const shown = (key: NumberKey, value: number) => (key === 'learning_rate' ? formatRate(value) : String(value));

  return (
    <div className="advanced" data-testid="advanced-fields">
      {FIELDS.map(({ key, text, min, max, step, fallback }) => {
        const inherited = preset?.[key as keyof Preset] ?? fallback;
        return (
          <Form.Item key={key} label={t(text)} htmlFor={`field-${key}`}>
            <InputNumber
              id={`field-${key}`}
              className="full"
              value={overrides[key] ?? null}
              min={min}
              max={max}
              step={step}
              formatter={(value, { userTyping, input }) =>
                userTyping ? input : value === undefined || String(value) === '' ? '' : shown(key, Number(value))
              }
              placeholder={typeof inherited === 'number' ? shown(key, inherited) : t('field.automatic')}
              onChange={(value) => set(key, value)}
            />
          </Form.Item>
        );
      })}
      <Form.Item label={t('field.schedule')} htmlFor="field-schedule">
        <Select
          id="field-schedule"
          value={overrides.schedule ?? 'cosine'}
          onChange={(value) => set('schedule', value === 'cosine' ? null : value)}
          options={[
            { value: 'cosine', label: t('field.cosine') },
            { value: 'linear', label: t('field.linear') },
            { value: 'constant', label: t('field.constant') },
          ]}
        />
      </Form.Item>
      <label className="switch-line" htmlFor="field-load_in_8bit">
        <Switch
          id="field-load_in_8bit"
          size="small"
          checked={overrides.load_in_8bit ?? true}
          onChange={(checked) => set('load_in_8bit', checked ? null : false)}
        />
        {t('field.load_in_8bit')}
      </label>
      <label className="switch-line" htmlFor="field-hold">
        <Switch id="field-hold" size="small" checked={draft.hold} onChange={(hold) => change({ hold })} />
        {t('field.hold')}
      </label>
    </div>
  );
}
