import { AutoComplete, Form, InputNumber, Select, Switch } from 'antd';
import { useTranslation } from 'react-i18next';
import { useDevices } from '../../api/queries';
import type { Preset } from '../../api/types';
import type { TextKey } from '../../i18n';
import { formatRate } from '../../shared/format';
import { useDraft } from './DraftProvider';
import type { Overrides } from './draft';
import { METHODS, type MethodChoice, methodOf } from './methods';
import { QueueFields } from './QueueFields';
import { SweepFields } from './SweepFields';
import { targetsOf, targetText } from './targets';

type NumberKey = {
  [Key in keyof Overrides]-?: NonNullable<Overrides[Key]> extends number ? Key : never;
}[keyof Overrides];

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
  { key: 'keep_checkpoints', text: 'field.keep_checkpoints', min: 1, step: 1 },
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

  const { data } = useDevices();
  const gpuCount = data?.devices.filter(({ kind }) => kind !== 'cpu').length ?? 0;
  const setMethod = (choice: MethodChoice) =>
    change({ overrides: { ...overrides, ...METHODS.find(({ key }) => key === choice)?.fields } });

  return (
    <div className="advanced" data-testid="advanced-fields">
      <Choice
        name="trainer"
        label={t('task.trainer')}
        value={overrides.trainer}
        onChange={(value) => set('trainer', value)}
        fallback={t('field.automatic')}
        options={{ builtin: t('task.builtin'), peft: t('task.peft') }}
      />
      <Form.Item label={t('field.method')} htmlFor="field-method">
        <Select<MethodChoice>
          id="field-method"
          value={methodOf(overrides)}
          onChange={setMethod}
          options={METHODS.map(({ key, text }) => ({ value: key, label: t(text) }))}
        />
      </Form.Item>
      <Choice
        name="objective"
        label={t('field.objective')}
        value={overrides.objective === 'sft' ? undefined : overrides.objective}
        onChange={(value) => set('objective', value)}
        fallback={t('field.sft')}
        options={{ dpo: t('field.dpo') }}
      />
      <Choice
        name="loss"
        label={t('field.loss')}
        value={overrides.loss}
        onChange={(value) => set('loss', value as Overrides['loss'])}
        fallback={t('field.automatic')}
        options={{ hf: t('field.lossHf'), fused: t('field.lossFused'), chunked: t('field.lossChunked') }}
      />
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
      <Choice
        name="schedule"
        label={t('field.schedule')}
        value={overrides.schedule}
        onChange={(value) => set('schedule', value)}
        fallback={t('field.cosine')}
        options={{ linear: t('field.linear'), constant: t('field.constant') }}
      />
      <Form.Item label={t('field.lora_targets')} htmlFor="field-lora_targets">
        <AutoComplete
          id="field-lora_targets"
          value={targetText(overrides.lora_targets)}
          onChange={(text) => set('lora_targets', targetsOf(text ?? ''))}
          options={[
            { value: 'all', label: t('field.targetsAll') },
            { value: 'qv', label: t('field.targetsQv') },
          ]}
          allowClear
          placeholder={t('field.targetsAll')}
          disabled={overrides.method === 'full'}
        />
      </Form.Item>
      <Form.Item label={t('field.gpus')} htmlFor="field-gpus">
        <InputNumber
          id="field-gpus"
          className="full"
          value={overrides.gpus ?? null}
          min={1}
          max={Math.max(1, gpuCount)}
          placeholder="1"
          onChange={(gpus) => set('gpus', gpus)}
        />
      </Form.Item>
      {(overrides.gpus ?? 1) > 1 && (
        <Choice
          name="parallelism"
          label={t('field.parallelism')}
          value={overrides.parallelism === 'ddp' ? undefined : overrides.parallelism}
          onChange={(value) => set('parallelism', value)}
          fallback={t('field.ddp')}
          options={{ fsdp: t('field.fsdp') }}
        />
      )}
      <QueueFields />
      <label className="switch-line" htmlFor="field-gradient_checkpointing">
        <Switch
          id="field-gradient_checkpointing"
          size="small"
          checked={overrides.gradient_checkpointing ?? true}
          onChange={(checked) => set('gradient_checkpointing', checked ? null : false)}
        />
        {t('field.gradient_checkpointing')}
      </label>
      <label className="switch-line" htmlFor="field-allow_quantization">
        <Switch
          id="field-allow_quantization"
          size="small"
          checked={overrides.allow_quantization ?? false}
          onChange={(checked) => set('allow_quantization', checked || null)}
        />
        {t('field.allow_quantization')}
      </label>
      <label className="switch-line" htmlFor="field-fit">
        <Switch id="field-fit" size="small" checked={draft.fit} onChange={(fit) => change({ fit })} />
        {t('field.fit')}
      </label>
      <HoldSwitch />
      <SweepFields />
    </div>
  );
}

/** What of it a command has too. */
export function CommandAdvancedFields() {
  return (
    <div className="advanced" data-testid="advanced-fields">
      <QueueFields />
      <HoldSwitch />
      <SweepFields />
    </div>
  );
}

function HoldSwitch() {
  const { t } = useTranslation();
  const { draft, change } = useDraft();
  return (
    <label className="switch-line" htmlFor="field-hold">
      <Switch id="field-hold" size="small" checked={draft.hold} onChange={(hold) => change({ hold })} />
      {t('field.hold')}
    </label>
  );
}

interface ChoiceProps {
  name: string;
  label: string;
  /** None: the fallback. */
  value: string | null | undefined;
  onChange: (value: string | null) => void;
  /** What it is when nothing is chosen. */
  fallback: string;
  options: Record<string, string>;
}

const FALLBACK = '';

function Choice({ name, label, value, onChange, fallback, options }: ChoiceProps) {
  return (
    <Form.Item label={label} htmlFor={`field-${name}`}>
      <Select
        id={`field-${name}`}
        value={value && value in options ? value : FALLBACK}
        onChange={(chosen) => onChange(chosen === FALLBACK ? null : chosen)}
        options={[
          { value: FALLBACK, label: fallback },
          ...Object.entries(options).map(([key, text]) => ({ value: key, label: text })),
        ]}
      />
    </Form.Item>
  );
}
