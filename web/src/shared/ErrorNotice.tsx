import { Alert } from 'antd';
import { useTranslation } from 'react-i18next';
import { ApiError } from '../api/client';

/** What went wrong and what to do about it, in place. */
export function ErrorNotice({ error, onClose, testId }: { error: unknown; onClose?: () => void; testId?: string }) {
  const { t } = useTranslation();
  const unreachable = error instanceof ApiError && error.unreachable;
  const message = unreachable ? t('error.unreachable') : error instanceof Error ? error.message : String(error);
  const nextStep = unreachable ? t('error.unreachableNext') : error instanceof ApiError ? error.nextStep : null;
  return (
    <Alert
      type="error"
      showIcon
      role="alert"
      data-testid={testId ?? 'error-notice'}
      title={message}
      description={nextStep ?? undefined}
      closable={onClose ? { onClose, 'aria-label': t('action.close') } : false}
    />
  );
}
