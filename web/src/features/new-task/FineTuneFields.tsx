import { Form, Segmented } from 'antd';
import { useTranslation } from 'react-i18next';
import { usePresets } from '../../api/queries';
import { formatRate } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { DatasetField } from '../datasets/DatasetField';
import { ModelField } from '../models/ModelField';
import { useDraft } from './DraftProvider';
import { isDatasetMissing, isModelMissing, type PresetName } from './draft';

/** What is trained, with what, and how in a word. */
export function FineTuneFields({ checked }: { checked: boolean }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { draft, change } = useDraft();
  const { data: presets = [] } = usePresets();
  const preset = presets.find(({ name }) => name === draft.preset);
  const modelMissing = isModelMissing(draft);
  const datasetMissing = isDatasetMissing(draft);
  return (
    <>
      <Form.Item
        label={t('form.model')}
        htmlFor="new-model"
        validateStatus={checked && modelMissing ? 'error' : undefined}
        help={checked && modelMissing ? <span id="model-help">{t('form.modelMissing')}</span> : undefined}
      >
        <ModelField
          id="new-model"
          value={draft.model}
          onChange={(model) => change({ model })}
          invalid={checked && modelMissing}
          describedBy={checked && modelMissing ? 'model-help' : undefined}
        />
      </Form.Item>
      <Form.Item
        label={t('form.dataset')}
        htmlFor="new-dataset"
        validateStatus={checked && datasetMissing ? 'error' : undefined}
        help={checked && datasetMissing ? <span id="dataset-help">{t('form.datasetMissing')}</span> : undefined}
      >
        <DatasetField
          id="new-dataset"
          invalid={checked && datasetMissing}
          describedBy={checked && datasetMissing ? 'dataset-help' : undefined}
        />
      </Form.Item>
      <Form.Item label={t('form.preset')}>
        <Segmented<PresetName>
          block
          value={draft.preset}
          onChange={(name) => change({ preset: name })}
          aria-label={t('form.preset')}
          data-testid="preset"
          options={(['safe', 'balanced', 'fast'] as const).map((name) => ({ value: name, label: t(`preset.${name}`) }))}
        />
        {preset && (
          <p className="cell-under preset-facts">
            {presetReason(language === 'zh-CN' ? preset.title_zh : preset.title_en)}
            <br />
            {t('form.presetFacts', {
              epochs: preset.num_epochs,
              rate: formatRate(preset.learning_rate),
              batch: preset.batch_size * preset.gradient_accumulation_steps,
              length: preset.max_length,
              rank: preset.lora_rank,
            })}
          </p>
        )}
      </Form.Item>
    </>
  );
}

/** What a preset is good for: its title after the name. */
function presetReason(title: string): string {
  return title.replace(/^[^：:]*[：:]\s*/, '');
}
