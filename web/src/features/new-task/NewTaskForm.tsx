import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Alert, Button, Form, Input, InputNumber, Segmented, Select, Space } from 'antd';
import { useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import { api } from '../../api/client';
import { keys, usePresets, useStudio } from '../../api/queries';
import type { CreatedTask, DatasetView, FineTunePatch } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatRate } from '../../shared/format';
import { useBilingual, usePreferences } from '../../shared/preferences';
import { DatasetField } from '../datasets/DatasetField';
import { pastedFilename } from '../datasets/pasted';
import { Alternatives } from '../estimate/Alternatives';
import { EstimatePanel } from '../estimate/EstimatePanel';
import { ModelField } from '../models/ModelField';
import { AdvancedFields } from './AdvancedFields';
import { useDraft } from './DraftProvider';
import { type Draft, emptyDraft, type PresetName, patched, requestOf, type TimeUnit } from './draft';
import './new-task.css';

/** The studio answers in milliseconds: the second half of a double click would find the button free again. */
const DOUBLE_CLICK_MS = 700;

/** The create form. */
export function NewTaskForm() {
  const { t } = useTranslation();
  const client = useQueryClient();
  const { language } = usePreferences();
  const { draft, change } = useDraft();
  const { data: presets = [] } = usePresets();
  const studio = useStudio();
  const [checked, setChecked] = useState(false);
  const busy = useRef(false);
  const [settling, setSettling] = useState(false);

  const submit = useMutation({
    mutationFn: async (form: Draft) => {
      let { dataset } = form;
      if (!dataset && form.source === 'paste') {
        const stored = await api.pasteDataset(pastedFilename(form.pasted, new Date()), form.pasted);
        client.setQueryData<DatasetView[]>(keys.datasets, (now) => [stored, ...(now ?? [])]);
        dataset = stored.path;
        change({ dataset });
      }
      return api.submit(requestOf({ ...form, dataset }));
    },
    onSettled: () => {
      setSettling(true);
      setTimeout(() => {
        busy.current = false;
        setSettling(false);
      }, DOUBLE_CLICK_MS);
    },
  });

  /** What was submitted does not fit; this does. */
  const replaceBy = async (task: CreatedTask, patch: FineTunePatch) => {
    const form = patched(draft, patch);
    change(form);
    // It may have ended meanwhile: then there is nothing to take back.
    await api.cancel(task.task_id).catch(() => {});
    submit.mutate(form);
  };

  const modelMissing = draft.model.trim() === '';
  const datasetMissing = draft.dataset.trim() === '' && !(draft.source === 'paste' && draft.pasted.trim() !== '');
  const preset = presets.find(({ name }) => name === draft.preset);
  const defaultLimit = (studio.data?.default_time_limit_seconds ?? 21_600) / (draft.timeUnit === 'h' ? 3600 : 60);

  const onSubmit = () => {
    setChecked(true);
    if (modelMissing || datasetMissing || busy.current) return;
    busy.current = true;
    submit.mutate(draft);
  };

  return (
    <Form layout="vertical" onFinish={onSubmit} className="new-task" data-testid="new-task-form" requiredMark={false}>
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
      <div className="form-pair">
        <Form.Item label={t('form.timeLimit')} htmlFor="new-time-limit">
          <Space.Compact block>
            <InputNumber
              id="new-time-limit"
              className="full"
              min={0}
              step={draft.timeUnit === 'h' ? 0.5 : 10}
              value={draft.timeLimit}
              placeholder={String(Number(defaultLimit.toFixed(1)))}
              onChange={(timeLimit) => change({ timeLimit: timeLimit && timeLimit > 0 ? timeLimit : null })}
            />
            <Select<TimeUnit>
              className="time-unit"
              value={draft.timeUnit}
              onChange={(timeUnit) => change({ timeUnit })}
              aria-label={t('form.timeUnit')}
              options={[
                { value: 'h', label: t('form.hours') },
                { value: 'min', label: t('form.minutes') },
              ]}
            />
          </Space.Compact>
        </Form.Item>
        <Form.Item label={t('form.name')} htmlFor="new-name">
          <Input
            id="new-name"
            value={draft.name}
            maxLength={100}
            onChange={(event) => change({ name: event.target.value })}
            placeholder={t('form.namePlaceholder')}
          />
        </Form.Item>
      </div>
      <Segmented<'simple' | 'advanced'>
        size="small"
        className="mode-switch"
        value={draft.advanced ? 'advanced' : 'simple'}
        onChange={(mode) => change({ advanced: mode === 'advanced' })}
        aria-label={t('form.mode')}
        data-testid="mode"
        options={[
          { value: 'simple', label: t('form.simple') },
          { value: 'advanced', label: t('form.advanced') },
        ]}
      />
      {/* Together: the estimate stays in sight beside the fields that it depends on, and covers no others. */}
      <div className="form-live">
        {draft.advanced && <AdvancedFields preset={preset} />}
        <EstimatePanel />
      </div>
      <div className="form-end">
        <Button
          type="primary"
          htmlType="submit"
          size="large"
          block
          loading={submit.isPending || settling}
          data-testid="submit-task"
        >
          {t('form.submit')}
        </Button>
        <Button
          type="link"
          size="small"
          className="reset"
          onClick={() => {
            change(emptyDraft);
            setChecked(false);
            submit.reset();
          }}
        >
          {t('form.reset')}
        </Button>
      </div>
      <div aria-live="polite">
        {submit.isError && <ErrorNotice error={submit.error} onClose={submit.reset} testId="submit-error" />}
        {submit.data && (
          <SubmitResult task={submit.data} onClose={submit.reset} onUse={(patch) => replaceBy(submit.data, patch)} />
        )}
      </div>
    </Form>
  );
}

/** What a preset is good for: its title after the name. */
function presetReason(title: string): string {
  return title.replace(/^[^：:]*[：:]\s*/, '');
}

interface SubmitResultProps {
  task: CreatedTask;
  onClose: () => void;
  onUse: (patch: FineTunePatch) => void;
}

/** Started, or queued and at which place; and what the studio thinks of the recipe. */
function SubmitResult({ task, onClose, onUse }: SubmitResultProps) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { search } = useLocation();
  const title = task.wait
    ? t('form.queued', { position: task.wait.position })
    : task.status === 'pending'
      ? t('form.held')
      : t('form.started');
  return (
    <div className="submit-result" data-testid="submit-result" data-status={task.status} data-task-id={task.task_id}>
      <Alert
        type={task.wait ? 'info' : 'success'}
        showIcon
        closable={{ onClose, 'aria-label': t('action.close') }}
        title={title}
        description={
          <>
            {task.wait && <div>{pick(task.wait)}</div>}
            <Link to={{ pathname: `/tasks/${task.task_id}`, search }}>{task.task_id}</Link>
          </>
        }
      />
      {task.warnings.map((warning) => (
        <Alert key={warning.code} type="warning" showIcon title={pick(warning)} data-testid="submit-warning" />
      ))}
      <Alternatives alternatives={task.alternatives ?? []} action={t('estimate.useInstead')} onUse={onUse} />
    </div>
  );
}
