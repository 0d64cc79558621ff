import { Alert, Descriptions, type DescriptionsProps, Timeline, Typography } from 'antd';
import { useTranslation } from 'react-i18next';
import { useDevices, useJournal } from '../../api/queries';
import type { JournalEntry, TaskView } from '../../api/types';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatFullTime,
  formatLoss,
  formatRate,
  secondsBetween,
} from '../../shared/format';
import { useBilingual, useMedia, usePreferences } from '../../shared/preferences';
import { useNow } from '../../shared/useNow';
import { trainerText } from '../new-task/methods';
import { TaskProgress } from '../queue/cells';
import { isPriority, PRIORITIES } from '../queue/priority';
import { isRunning, isStatus, STATUSES } from '../queue/status';
import { MemorySection } from './MemorySection';
import { WaitNotice } from './WaitNotice';
import '../estimate/estimate.css';

/** What may end a training that runs; said before the rest. */
const URGENT = new Set(['foreign-use', 'oom-risk-high']);

/** Where the task stands and how it got there. */
export function SummaryTab({ task }: { task: TaskView }) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { language } = usePreferences();
  const columns = useMedia('(min-width: 640px)') ? 2 : 1;
  const now = useNow(isRunning(task.status));
  const devices = useDevices();
  const { progress } = task;
  const warnings = [...task.warnings].sort((a, b) => Number(URGENT.has(b.code)) - Number(URGENT.has(a.code)));

  const elapsed = task.started_at ? secondsBetween(task.started_at, task.completed_at, now) : null;
  const left =
    task.status === 'training' && elapsed !== null && progress.percent >= 1
      ? (elapsed * (100 - progress.percent)) / progress.percent
      : null;
  const path = (text: string) => (
    <Typography.Text copyable className="path">
      {text}
    </Typography.Text>
  );
  const deviceName = (id: string) => devices.data?.devices.find((device) => device.id === id)?.name ?? id;

  const items: DescriptionsProps['items'] = [
    { key: 'id', label: t('task.id'), children: path(task.task_id), span: columns },
    { key: 'model', label: t('form.model'), children: path(task.model_name), span: columns },
  ];
  const add = (key: string, label: string, children: React.ReactNode, wide = false) => {
    if (children !== null && children !== undefined) {
      items.push({ key, label, children, span: wide ? columns : 1 });
    }
  };
  add('dataset', t('form.dataset'), task.dataset_path && path(task.dataset_path), true);
  add('output', t('task.output'), path(task.output_dir), true);
  add('owner', t('table.owner'), task.owner);
  if (isPriority(task.priority)) add('priority', t('field.priority'), t(PRIORITIES[task.priority].text));
  if (task.after.length > 0)
    add(
      'after',
      t('field.after'),
      task.after.map((after) => path(after)),
      true,
    );
  if (task.group)
    add('group', t('group.place', { number: task.group.index + 1, size: task.group.size }), task.group.label, true);
  add('startAfter', t('field.startAfter'), task.start_after && formatFullTime(task.start_after, language));
  add('deadline', t('field.deadline'), task.deadline && formatFullTime(task.deadline, language));
  if (task.retries !== null || task.retried > 0) {
    const { retried, retries } = task;
    add('retries', t('field.retries'), retries === null ? retried : t('task.retried', { retried, retries }));
  }
  add('trainer', t('task.trainer'), t(trainerText(task.trainer)));
  add('created', t('task.created'), formatFullTime(task.created_at, language));
  add('started', t('task.started'), task.started_at && formatFullTime(task.started_at, language));
  add('ended', t('task.ended'), task.completed_at && formatFullTime(task.completed_at, language));
  add('elapsed', t('task.elapsed'), elapsed === null ? null : formatDuration(elapsed, language));
  add('left', t('task.left'), left === null ? null : formatDuration(left, language));
  add('limit', t('form.timeLimit'), formatDuration(task.time_limit_seconds, language));
  add('loss', t('table.loss'), progress.loss === null ? null : formatLoss(progress.loss));
  add('rate', t('field.learning_rate'), progress.learning_rate === null ? null : formatRate(progress.learning_rate));
  add(
    'speed',
    t('task.speed'),
    progress.tokens_per_second === null
      ? null
      : t('task.tokensPerSecond', { count: formatCount(Math.round(progress.tokens_per_second), language) }),
  );
  add('memory', t('task.memory'), progress.memory_bytes === null ? null : formatBytes(progress.memory_bytes));
  add('device', t('task.deviceMemory'), progress.device_bytes === null ? null : formatBytes(progress.device_bytes));
  if (task.attempt) {
    const { number, devices: granted, pid } = task.attempt;
    const text = [
      t('task.attemptNumber', { number }),
      granted.map(deviceName).join(', '),
      pid !== null && t('task.pid', { pid: String(pid) }),
    ];
    add('attempt', t('task.attempt'), text.filter(Boolean).join(' · '), true);
  }

  return (
    <div className="summary">
      {task.failure && (
        <Alert type="error" showIcon title={t('task.failed')} description={pick(task.failure)} data-testid="failure" />
      )}
      {task.wait && <WaitNotice wait={task.wait} />}
      {warnings.map((warning) => (
        <Alert
          key={warning.code}
          type={URGENT.has(warning.code) ? 'warning' : 'info'}
          showIcon
          title={pick(warning)}
          data-testid="task-warning"
          data-code={warning.code}
        />
      ))}
      {(isRunning(task.status) || progress.step > 0) && (
        <div className="summary-progress">
          <TaskProgress task={task} />
        </div>
      )}
      <MemorySection task={task} />
      <Descriptions size="small" column={columns} items={items} colon={false} className="facts" />
      <Journal taskId={task.task_id} />
    </div>
  );
}

function Journal({ taskId }: { taskId: string }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const pick = useBilingual();
  const { data } = useJournal(taskId);
  const word = (state: string) => (isStatus(state) ? t(STATUSES[state].text) : state);
  const color = (state: string) => {
    const named = isStatus(state) ? STATUSES[state].color : 'default';
    return named === 'default' ? 'gray' : named;
  };
  if (!data || data.length === 0) return null;
  const line = (entry: JournalEntry) => (
    <>
      <div>
        <strong>{word(entry.to)}</strong>{' '}
        <span className="journal-why">{pick({ zh: entry.why_zh || entry.why, en: entry.why })}</span>
      </div>
      <div className="cell-under cell-number">
        {formatFullTime(entry.at, language)} · {entry.who}
      </div>
    </>
  );
  return (
    <section aria-label={t('task.journal')}>
      <h3>{t('task.journal')}</h3>
      <Timeline items={data.map((entry) => ({ key: entry.seq, color: color(entry.to), content: line(entry) }))} />
    </section>
  );
}
