import { WarningOutlined } from '@ant-design/icons';
import { Progress, Tooltip } from 'antd';
import { useTranslation } from 'react-i18next';
import type { TaskView } from '../../api/types';
import {
  formatBytes,
  formatDuration,
  formatFullTime,
  formatTime,
  lastSegment,
  secondsBetween,
} from '../../shared/format';
import { useBilingual, usePreferences } from '../../shared/preferences';
import { useNow } from '../../shared/useNow';
import { ExpectedStart } from './ExpectedStart';
import type { Span } from './groups';
import { PriorityTag } from './PriorityTag';
import { StatusTag } from './StatusTag';
import { isRunning } from './status';
import { WaitReason } from './WaitReason';

/** What the task, or the group that it belongs to, is called. */
export const groupTitle = (task: Pick<TaskView, 'name' | 'model_name'>) => task.name || lastSegment(task.model_name);

export function taskTitle(task: Pick<TaskView, 'name' | 'model_name' | 'group'>): string {
  return task.group ? `${groupTitle(task)} · ${task.group.label}` : groupTitle(task);
}

export function TaskName({ task }: { task: TaskView }) {
  const dataset = task.dataset_path ? lastSegment(task.dataset_path) : null;
  const under = [task.name ? lastSegment(task.model_name) : null, dataset].filter(Boolean).join(' · ');
  return (
    <>
      <span className="cell-main" title={task.model_name}>
        {taskTitle(task)}
      </span>
      <span className="cell-under" title={task.dataset_path ?? undefined}>
        {under || task.task_id}
      </span>
    </>
  );
}

/** The tag, and under it in short why the task waits or what went wrong. */
export function TaskState({ task }: { task: TaskView }) {
  const pick = useBilingual();
  const foreign = isRunning(task.status) && task.warnings.find(({ code }) => code === 'foreign-use');
  return (
    <>
      <span>
        <StatusTag task={task} />
        <PriorityTag priority={task.priority} />
      </span>
      {foreign && (
        <span className="cell-under cell-lines cell-warning" data-testid="foreign-use" title={pick(foreign)}>
          <WarningOutlined aria-hidden /> {pick(foreign)}
        </span>
      )}
      {task.wait && <WaitReason wait={task.wait} />}
      {task.wait && <ExpectedStart wait={task.wait} className="cell-under" />}
      {task.failure && (
        <span className="cell-under cell-lines" title={pick(task.failure)}>
          {pick(task.failure)}
        </span>
      )}
    </>
  );
}

export function TaskProgress({ task }: { task: TaskView }) {
  const { t } = useTranslation();
  const { progress, status } = task;
  if (progress.fetch) {
    const { bytes, total_bytes: total } = progress.fetch;
    // Before its first training, peft itself is installed.
    const what = t(task.trainer === 'peft' ? 'progress.fetchingPeft' : 'progress.fetching');
    return (
      <>
        <Progress
          percent={total ? (100 * bytes) / total : 0}
          size="small"
          status="active"
          format={(percent) => (total ? `${Math.floor(percent ?? 0)}%` : '')}
          aria-label={what}
        />
        <span className="cell-under">
          {what} {formatBytes(bytes)}
          {total ? ` / ${formatBytes(total)}` : ''}
        </span>
      </>
    );
  }
  if (task.trainer === 'peft' && status === 'preparing' && progress.step === 0) {
    return (
      <span className="cell-under cell-lines" data-testid="installing">
        {t('progress.installing')}
      </span>
    );
  }
  if (progress.step === 0 && !isRunning(status)) return <span className="cell-under">–</span>;
  return (
    <>
      <Progress
        percent={progress.percent}
        size="small"
        status={status === 'failed' ? 'exception' : status === 'training' ? 'active' : 'normal'}
        strokeColor={status === 'completed' ? 'var(--ant-color-success)' : undefined}
        format={(percent) => `${Math.floor(percent ?? 0)}%`}
        aria-label={t('table.progress')}
      />
      <span className="cell-under">
        {progress.total_epochs > 0 &&
          t('progress.epoch', { epoch: progress.epoch.toFixed(1), total: progress.total_epochs })}
        {progress.total_steps > 0 && ` · ${t('progress.step', { step: progress.step, total: progress.total_steps })}`}
      </span>
    </>
  );
}

export function TaskTimes({ task }: { task: Span }) {
  const { language } = usePreferences();
  const now = useNow(isRunning(task.status));
  return (
    <>
      <Tooltip title={formatFullTime(task.created_at, language)}>
        <span className="cell-main cell-number">{formatTime(task.created_at, language)}</span>
      </Tooltip>
      <span className="cell-under cell-number">
        {task.started_at ? formatDuration(secondsBetween(task.started_at, task.completed_at, now), language) : '–'}
      </span>
    </>
  );
}
