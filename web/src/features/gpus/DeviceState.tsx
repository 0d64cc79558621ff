import { ClockCircleOutlined, ExclamationCircleOutlined, WarningOutlined } from '@ant-design/icons';
import { Tag } from 'antd';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { useDevices } from '../../api/queries';
import type { DeviceView } from '../../api/types';
import { formatBytes, formatDuration, formatTime } from '../../shared/format';
import { useBilingual, usePreferences } from '../../shared/preferences';
import { useNow } from '../../shared/useNow';
import { MaintenanceTag } from './Maintenance';

/** Readings are taken every second or two; one as old as this is not the present. */
const STALE_SECONDS = 10;
const XID_LIST = 'https://docs.nvidia.com/deploy/xid-errors/';

/** Utilisation, temperature, power, clocks; only what is known. */
export function DeviceFacts({ device, short = false }: { device: DeviceView; short?: boolean }) {
  const { t } = useTranslation();
  const { utilisation_percent, temperature_celsius, power_watts, clocks } = device;
  const facts = [
    utilisation_percent !== null && t('gpu.utilisation', { percent: utilisation_percent }),
    temperature_celsius !== null && `${temperature_celsius} °C`,
    power_watts !== null && `${Math.round(power_watts)} W`,
    clocks !== null && `${clocks.graphics_mhz} MHz`,
  ].filter(Boolean);
  return <span className="device-facts cell-number">{(short ? facts.slice(0, 2) : facts).join(' · ')}</span>;
}

/** What is special about a device, in a word each. */
export function DeviceTags({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  return (
    <>
      {device.unified_memory && <Tag>{t('gpu.unified')}</Tag>}
      {device.unusable && (
        <Tag color="warning" icon={<ExclamationCircleOutlined />} data-testid="device-unusable">
          {t('gpu.unusable')}
        </Tag>
      )}
      <MaintenanceTag device={device} />
      <ReadingAge device={device} />
    </>
  );
}

/** How old the reading is, once it is old. */
function ReadingAge({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { dataUpdatedAt } = useDevices();
  // Nothing is measured of the others, so they are looked at rarely.
  const measured = device.kind !== 'simulated' && device.kind !== 'cpu';
  const stale = measured && device.age_seconds > STALE_SECONDS;
  const now = useNow(stale);
  if (!stale) return null;
  // The clock here may not be the studio's: only the time since the figures came in is counted with it.
  const seconds = device.age_seconds + Math.max(0, now - dataUpdatedAt) / 1000;
  return (
    <Tag color="warning" icon={<ClockCircleOutlined />} data-testid="device-stale">
      {t('gpu.stale', { age: formatDuration(seconds, language) })}
    </Tag>
  );
}

/** Whether the device is all right, and what to do if not. */
export function DeviceNotes({ device, missing }: { device: DeviceView; missing: number }) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { language } = usePreferences();
  const { uncorrected_ecc_errors: ecc, row_remap_pending, last_xid: xid } = device.health;
  return (
    <>
      {device.unusable && <Note>{pick(device.unusable)}</Note>}
      {missing > 0 && <Note testId="device-missing">{t('gpu.missing', { bytes: formatBytes(missing) })}</Note>}
      {ecc !== null && ecc > 0 && <Note>{t('gpu.ecc', { count: ecc })}</Note>}
      {row_remap_pending && <Note>{t('gpu.remap')}</Note>}
      {xid && (
        <Note>
          {t('gpu.xid', { code: xid.code, at: formatTime(xid.at, language) })}{' '}
          <a href={XID_LIST} target="_blank" rel="noreferrer">
            {t('gpu.xidMeaning')}
          </a>
        </Note>
      )}
    </>
  );
}

function Note({ children, testId }: { children: ReactNode; testId?: string }) {
  return (
    <p className="device-note" data-testid={testId}>
      <WarningOutlined aria-hidden /> <span>{children}</span>
    </p>
  );
}
