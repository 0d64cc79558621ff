import { Alert, Skeleton, Spin, Tag } from 'antd';
import { useTranslation } from 'react-i18next';
import { useDevices } from '../../api/queries';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { useBilingual, usePreferences } from '../../shared/preferences';
import { DeviceCard } from './DeviceCard';
import { recommendationIn } from './recommendation';
import './gpus.css';

/** What the machine has, what it is good for, and who is using it now. */
export function DeviceBanner() {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { language } = usePreferences();
  const { data, error } = useDevices();

  if (!data) {
    return (
      <section className="panel device-banner" aria-label={t('gpu.title')} data-testid="device-banner">
        {error ? <ErrorNotice error={error} /> : <Skeleton active title={false} paragraph={{ rows: 2 }} />}
      </section>
    );
  }
  if (data.detecting) {
    return (
      <section className="panel device-banner" aria-label={t('gpu.title')} data-testid="device-banner">
        <p className="device-detecting" role="status">
          <Spin size="small" /> {t('gpu.detecting')}
        </p>
      </section>
    );
  }
  const hasGpu = data.devices.some((device) => device.kind !== 'cpu');
  return (
    <section className="panel device-banner" aria-label={t('gpu.title')} data-testid="device-banner">
      <div className="device-sentence">
        <strong data-testid="recommendation">{recommendationIn(language, data.recommendation)}</strong>
        {data.simulated && (
          <Tag color="purple" data-testid="simulated-label">
            {t('gpu.simulated')}
          </Tag>
        )}
      </div>
      {hasGpu ? (
        data.findings.map((finding) => <Alert key={finding.code} type="info" showIcon title={pick(finding)} />)
      ) : (
        <Alert
          type="warning"
          showIcon
          data-testid="no-gpu"
          title={[t('gpu.none'), ...(data.findings.length > 0 ? data.findings.map(pick) : [t('gpu.noneNext')])].join(
            ' ',
          )}
        />
      )}
      {data.devices.length > 0 && (
        <ul className="devices">
          {data.devices.map((device) => (
            <DeviceCard key={device.id} device={device} />
          ))}
        </ul>
      )}
    </section>
  );
}
