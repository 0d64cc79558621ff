import { Alert } from 'antd';
import { useTranslation } from 'react-i18next';
import { ApiError } from '../api/client';
import { usePreferences } from './preferences';

/** What went wrong and what to do about it, in the chosen language as far as the studio speaks it. */
export function useErrorText(): (error: unknown) => { message: string; nextStep: string | null } {
  const { t } = useTranslation();
  const { language } = usePreferences();
  return (error) => {
    if (!(error instanceof ApiError)) {
      return { message: error instanceof Error ? error.message : String(error), nextStep: null };
    }
    if (error.unreachable) return { message: t('error.unreachable'), nextStep: t('error.unreachableNext') };
    if (language === 'zh-CN' && error.zh) return { message: error.zh, nextStep: null };
    return { message: error.message, nextStep: error.nextStep };
  };
}

interface ErrorNoticeProps {
  error: unknown;
  onClose?: () => void;
  testId?: string;
}

export function ErrorNotice({ error, onClose, testId = 'error-notice' }: ErrorNoticeProps) {
  const { t } = useTranslation();
  const { message, nextStep } = useErrorText()(error);
  return (
    <Alert
      type="error"
      showIcon
      role="alert"
      data-testid={testId}
      title={message}
      description={nextStep ?? undefined}
      closable={onClose ? { onClose, 'aria-label': t('action.close') } : false}
    />
  );
}
