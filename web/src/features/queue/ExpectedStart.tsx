import { useTranslation } from 'react-i18next';
import type { WaitView } from '../../api/types';
import { formatTime } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { expectedStart } from './expected';

/** One line under the reason why a task waits; nothing where its start cannot be told. */
export function ExpectedStart({ wait, className }: { wait: WaitView; className?: string }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const start = expectedStart(wait, Date.now());
  if (start === null) return null;
  return (
    <span className={className} data-testid="expected-start">
      {start === 'soon' ? t('wait.startsSoon') : t('wait.startsAt', { time: formatTime(start, language) })}
    </span>
  );
}
