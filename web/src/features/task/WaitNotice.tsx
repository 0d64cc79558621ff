import { Alert, type AlertProps } from 'antd';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import type { WaitView } from '../../api/types';
import { formatBytes, formatCount, formatDuration, formatTime } from '../../shared/format';
import { useBilingual, usePreferences } from '../../shared/preferences';
import { ExpectedStart } from '../queue/ExpectedStart';
import { type WaitTone, waitSign } from '../queue/WaitReason';

const TYPES: Record<WaitTone, AlertProps['type']> = { act: 'error', switched: 'info', normal: 'warning' };

/** Why the task waits, what is missing, and who has it. */
export function WaitNotice({ wait }: { wait: WaitView }) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { icon, tone } = waitSign(wait.code);
  return (
    <Alert
      type={TYPES[tone]}
      showIcon
      icon={icon}
      data-testid="wait"
      title={t('form.queued', { position: wait.position })}
      description={
        <>
          {pick(wait)}
          <ExpectedStart wait={wait} className="wait-start" />
          <WaitFigures wait={wait} />
        </>
      }
    />
  );
}

function WaitFigures({ wait }: { wait: WaitView }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { search } = useLocation();
  const { needed_bytes: needed, free_bytes: free, holders } = wait;
  const unknown = t('gpu.unknown');
  const figures: [string, string][] = [];
  if (needed !== null) figures.push([t('wait.needed'), formatBytes(needed)]);
  if (free !== null) figures.push([t('wait.free', { device: wait.device ?? '' }), formatBytes(free)]);
  if (needed !== null && free !== null && needed > free) figures.push([t('wait.missing'), formatBytes(needed - free)]);
  if (wait.at !== null) figures.push([t('wait.at'), formatTime(wait.at, language)]);
  const { used, limit } = wait;
  if (used !== null && limit !== null) {
    // Of an allowance; else of the disk or the memory.
    const room = wait.code === 'host_memory' ? 'wait.memoryFree' : 'wait.diskFree';
    const amount = (value: number) =>
      wait.quota === null
        ? formatBytes(value)
        : wait.quota === 'gpu_time'
          ? formatDuration(value, language)
          : formatCount(value, language);
    figures.push([t(wait.quota === null ? room : 'wait.used'), amount(used)]);
    figures.push([t(wait.quota === null ? 'wait.diskWanted' : 'wait.allowed'), amount(limit)]);
  }
  return (
    <>
      {figures.length > 0 && (
        <dl className="wait-figures cell-number">
          {figures.map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      )}
      {holders.length > 0 && (
        <div data-testid="wait-holders">
          {t('wait.holders')}
          <ul className="holders cell-number">
            {holders.map(({ pid, name, bytes, task_id }) => (
              <li key={`${task_id} ${pid} ${name}`}>
                {task_id ? (
                  <Link to={{ pathname: `/tasks/${task_id}`, search }}>{task_id}</Link>
                ) : (
                  [name ?? t('gpu.unattributed'), pid !== null && `pid ${pid}`].filter(Boolean).join(' · ')
                )}{' '}
                · {bytes === null ? unknown : formatBytes(bytes)}
              </li>
            ))}
          </ul>
        </div>
      )}
    </>
  );
}
