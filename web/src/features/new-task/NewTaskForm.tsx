import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Button, Form, Input, InputNumber, Segmented, Select, Space } from 'antd';
import { useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { keys, usePresets, useStudio } from '../../api/queries';
import type { CreatedGroup, CreatedTask, DatasetView, FineTunePatch } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { useMay } from '../../shared/useMay';
import { pastedFilename } from '../datasets/pasted';
import { EstimatePanel } from '../estimate/EstimatePanel';
import { AdvancedFields, CommandAdvancedFields } from './AdvancedFields';
import { CommandFields, isAbsolute, lineProblem } from './CommandFields';
import { useDraft } from './DraftProvider';
import {
  type Draft,
  type DraftKind,
  emptyDraft,
  groupOf,
  isDatasetMissing,
  isModelMissing,
  patched,
  requestOf,
  type TimeUnit,
} from './draft';
import { FineTuneFields } from './FineTuneFields';
import { GroupResult, SubmitResult } from './SubmitResult';
import { LARGEST_SWEEP, type SweepLine, sweepSize, wrongValues } from './sweep';
import './new-task.css';

/** The studio answers in milliseconds: the second half of a double click would find the button free again. */
const DOUBLE_CLICK_MS = 700;

/** The create form. */
export function NewTaskForm() {
  const { t } = useTranslation();
  const client = useQueryClient();
  const may = useMay();
  const { draft, change } = useDraft();
  const { data: presets = [] } = usePresets();
  const studio = useStudio();
  const [checked, setChecked] = useState(false);
  const busy = useRef(false);
  const [settling, setSettling] = useState(false);

  const submit = useMutation({
    mutationFn: async (form: Draft): Promise<CreatedTask | CreatedGroup> => {
      let { dataset } = form;
      if (form.kind === 'fine_tune' && !dataset && form.source === 'paste') {
        const stored = await api.pasteDataset(pastedFilename(form.pasted, new Date()), form.pasted);
        client.setQueryData<DatasetView[]>(keys.datasets, (now) => [stored, ...(now ?? [])]);
        dataset = stored.path;
        change({ dataset });
      }
      const group = groupOf({ ...form, dataset });
      return group ? api.submitGroup(group) : api.submit(requestOf({ ...form, dataset }));
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

  const preset = presets.find(({ name }) => name === draft.preset);
  const defaultLimit = (studio.data?.default_time_limit_seconds ?? 21_600) / (draft.timeUnit === 'h' ? 3600 : 60);

  const size = draft.advanced ? sweepSize(draft.sweep) : 0;
  const created = submit.data;

  const onSubmit = () => {
    setChecked(true);
    if (!isComplete(draft) || busy.current) return;
    busy.current = true;
    submit.mutate(draft);
  };

  return (
    <Form layout="vertical" onFinish={onSubmit} className="new-task" data-testid="new-task-form" requiredMark={false}>
      <Segmented<DraftKind>
        block
        className="kind-switch"
        value={draft.kind}
        // The parameters of one say nothing to the other.
        onChange={(kind) => change({ kind, sweep: [] })}
        aria-label={t('form.kind')}
        data-testid="kind"
        options={[
          { value: 'fine_tune', label: t('form.fineTune') },
          { value: 'command', label: t('task.command') },
        ]}
      />
      {draft.kind === 'command' ? <CommandFields checked={checked} /> : <FineTuneFields checked={checked} />}
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
        {draft.advanced && (draft.kind === 'command' ? <CommandAdvancedFields /> : <AdvancedFields preset={preset} />)}
        {draft.kind === 'fine_tune' && <EstimatePanel />}
      </div>
      <div className="form-end">
        <Button
          type="primary"
          htmlType="submit"
          size="large"
          block
          loading={submit.isPending || settling}
          disabled={!may.submit}
          title={may.submit ? undefined : t('form.viewer')}
          data-testid="submit-task"
        >
          {size > 1
            ? t('form.submitMany', { count: size })
            : t(draft.kind === 'command' ? 'form.submitCommand' : 'form.submit')}
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
        {created && 'group' in created && 'tasks' in created && (
          <GroupResult created={created} onClose={submit.reset} />
        )}
        {created && 'task_id' in created && (
          <SubmitResult task={created} onClose={submit.reset} onUse={(patch) => replaceBy(created, patch)} />
        )}
      </div>
    </Form>
  );
}

/** Whether there is nothing left to fill in or to put right. */
function isComplete(draft: Draft): boolean {
  const { advanced, sweep, kind } = draft;
  if (advanced && (sweepSize(sweep) > LARGEST_SWEEP || (kind === 'fine_tune' && sweep.some(hasWrong)))) return false;
  if (kind === 'command') return lineProblem(draft.line) === null && isAbsolute(draft.cwd);
  return !isModelMissing(draft) && !isDatasetMissing(draft);
}

const hasWrong = (line: SweepLine) => wrongValues(line).length > 0;
