import { Alert, Skeleton, Spin, Tag } from 'antd';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import { useDevices } from '../../api/queries';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { useBilingual, usePreferences } from '../../shared/preferences';
import { DeviceCard, DeviceRow, MigCard } from './DeviceCard';
import { MemoryKey } from './MemoryBar';
import { recommendationIn } from './recommendation';
import { grouped, memoryPicture } from './segments';
import './gpus.css';

/** From so many devices on, each gets one line. */
const MANY = 8;

/** What the machine has, what it is good for, and who is using it now. */
export function DeviceBanner() {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { language } = usePreferences();
  const { search } = useLocation();
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
  const many = data.devices.length >= MANY;
  // A card has a legend of its own.
  const pictures = data.devices
    .filter(({ mig }) => many || mig !== null)
    .map(memoryPicture)
    .filter((picture) => picture !== null);
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
        {hasGpu && (
          <Link to={{ pathname: '/fits', search }} className="fits-link" data-testid="open-fits">
            {t('fits.open')}
          </Link>
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
        <ul className={`devices${many ? ' devices-many' : ''}`} data-testid="devices">
          {grouped(data.devices).map((group) => {
            if (group.parent !== null) return <MigCard key={group.key} group={group} />;
            const [device] = group.devices;
            return many ? (
              <DeviceRow key={device.id} device={device} />
            ) : (
              <DeviceCard key={device.id} device={device} />
            );
          })}
        </ul>
      )}
      {pictures.length > 0 && <MemoryKey pictures={pictures} />}
    </section>
  );
}
