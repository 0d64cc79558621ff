import { Alert, Skeleton, Tag } from 'antd';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import { useExplanation, useJournal } from '../../api/queries';
import type { TaskView } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatFullTime, formatTime } from '../../shared/format';
import { useBilingual, usePreferences } from '../../shared/preferences';
import { isStatus, STATUSES } from '../queue/status';
import { attemptsOf } from './attempts';

/** Why the task is where it is: what each device says to it, who is before it, and what became of its attempts. */
export function WhyTab({ task }: { task: TaskView }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { search } = useLocation();
  const pick = useBilingual();
  const { data, error } = useExplanation(task.task_id);
  if (error && !data) return <ErrorNotice error={error} />;
  if (!data) return <Skeleton active paragraph={{ rows: 6 }} />;
  const starts = data.wait?.starts_at;
  return (
    <div className="summary" data-testid="why">
      <Alert type={task.status === 'failed' ? 'error' : 'info'} showIcon title={pick(data)} />
      {starts && <div>{t('why.starts', { at: formatTime(starts, language) })}</div>}
      {data.devices.length > 0 && (
        <section aria-label={t('why.devices')}>
          <h3>{t('why.devices')}</h3>
          <ul className="why-list">
            {data.devices.map((device) => (
              <li key={device.device} data-testid="why-device" data-code={device.code}>
                <Tag color={device.fits ? 'success' : 'default'}>{device.label}</Tag> {pick(device)}
              </li>
            ))}
          </ul>
        </section>
      )}
      {data.before.length > 0 && (
        <section aria-label={t('why.before')}>
          <h3>{t('why.before')}</h3>
          <ul className="why-list">
            {data.before.map((before) => (
              <li key={before.task_id}>
                <Link to={{ pathname: `/tasks/${before.task_id}`, search }}>{before.name ?? before.task_id}</Link>{' '}
                {pick(before.wait)}
              </li>
            ))}
          </ul>
        </section>
      )}
      <Attempts taskId={task.task_id} />
    </div>
  );
}

function Attempts({ taskId }: { taskId: string }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const pick = useBilingual();
  const { data } = useJournal(taskId);
  const attempts = attemptsOf(data ?? []);
  if (attempts.length === 0) return null;
  const word = (state: string) => (isStatus(state) ? t(STATUSES[state].text) : state);
  return (
    <section aria-label={t('why.attempts')}>
      <h3>{t('why.attempts')}</h3>
      <ol className="why-list">
        {attempts.map(({ number, started, ended }) => (
          <li key={number} data-testid="why-attempt">
            {t('why.started', { at: formatFullTime(started, language) })}
            {ended && (
              <>
                {' '}
                {t('why.ended', { at: formatFullTime(ended.at, language), state: word(ended.to) })}
                <span className="journal-why">{pick({ zh: ended.why_zh || ended.why, en: ended.why })}</span>
              </>
            )}
          </li>
        ))}
      </ol>
    </section>
  );
}
