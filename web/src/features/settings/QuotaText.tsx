import { useTranslation } from 'react-i18next';
import type { Quota } from '../../api/types';
import { formatBytes } from '../../shared/format';

/** What a user may have at most, in words; `–` where that is all there is. */
export function QuotaText({ quota }: { quota: Quota }) {
  const { t } = useTranslation();
  const parts = [
    quota.running !== null && t('quota.running', { count: quota.running }),
    quota.queued !== null && t('quota.queued', { count: quota.queued }),
    quota.gpus !== null && t('quota.gpus', { count: quota.gpus }),
    quota.gpu_hours_per_day !== null && t('quota.gpuHours', { count: quota.gpu_hours_per_day }),
    quota.disk_bytes !== null && t('quota.disk', { size: formatBytes(quota.disk_bytes) }),
    quota.weight !== 1 && t('quota.weight', { weight: quota.weight }),
  ].filter(Boolean);
  return <>{parts.join(' · ') || t('quota.none')}</>;
}
