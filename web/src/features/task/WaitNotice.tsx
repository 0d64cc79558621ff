import { Alert } from 'antd';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import type { WaitView } from '../../api/types';
import { formatBytes } from '../../shared/format';
import { useBilingual } from '../../shared/preferences';
import { ExpectedStart } from '../queue/ExpectedStart';

/** Why the task waits, what is missing, and who has it. */
export function WaitNotice({ wait }: { wait: WaitView }) {
  const { t } = useTranslation();
  const pick = useBilingual();
  return (
    <Alert
      type="warning"
      showIcon
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
  const { search } = useLocation();
  const { needed_bytes: needed, free_bytes: free, holders } = wait;
  const unknown = t('gpu.unknown');
  return (
    <>
      {(needed !== null || free !== null) && (
        <dl className="wait-figures cell-number">
          {needed !== null && (
            <div>
              <dt>{t('wait.needed')}</dt>
              <dd>{formatBytes(needed)}</dd>
            </div>
          )}
          {free !== null && (
            <div>
              <dt>{t('wait.free', { device: wait.device ?? '' })}</dt>
              <dd>{formatBytes(free)}</dd>
            </div>
          )}
          {needed !== null && free !== null && needed > free && (
            <div>
              <dt>{t('wait.missing')}</dt>
              <dd>{formatBytes(needed - free)}</dd>
            </div>
          )}
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
