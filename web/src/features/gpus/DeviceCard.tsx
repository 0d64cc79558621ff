import { Tooltip } from 'antd';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import type { DeviceView } from '../../api/types';
import { formatBytes } from '../../shared/format';
import { useBilingual } from '../../shared/preferences';

export function DeviceCard({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  const { memory } = device;
  const facts = [
    device.utilisation_percent !== null && t('gpu.utilisation', { percent: device.utilisation_percent }),
    device.temperature_celsius !== null && `${device.temperature_celsius} °C`,
    device.power_watts !== null && `${Math.round(device.power_watts)} W`,
  ].filter(Boolean);

  return (
    <li className="device" data-testid="device" data-device-id={device.id}>
      <div className="device-line">
        <span className="device-name">
          <span className="device-index">{device.kind === 'cpu' ? 'CPU' : device.index}</span>
          <span title={device.id}>{device.name}</span>
        </span>
        <span className="device-facts cell-number">{facts.join(' · ')}</span>
      </div>
      {memory ? (
        <>
          <MemoryBar device={device} />
          <div className="device-line device-under">
            <span className="cell-number">
              {t('gpu.memory', { used: formatBytes(memory.used), free: formatBytes(memory.free) })}
            </span>
            <DeviceUse device={device} />
          </div>
        </>
      ) : (
        <div className="device-line device-under">
          <span>{t('gpu.memoryUnknown')}</span>
          <DeviceUse device={device} />
        </div>
      )}
    </li>
  );
}

/** Used and reserved on one bar; the rest is free. */
function MemoryBar({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  const memory = device.memory;
  if (!memory || memory.total === 0) return null;
  const share = (bytes: number) => `${Math.min(100, (100 * bytes) / memory.total)}%`;
  return (
    <div
      className="memory-bar"
      role="meter"
      aria-label={t('gpu.memoryOf', { name: device.name })}
      aria-valuemin={0}
      aria-valuemax={memory.total}
      aria-valuenow={memory.used}
      aria-valuetext={t('gpu.memory', { used: formatBytes(memory.used), free: formatBytes(memory.free) })}
    >
      <span className={device.task_id ? 'memory-ours' : 'memory-used'} style={{ width: share(memory.used) }} />
      {memory.reserved !== null && (
        <Tooltip title={t('gpu.reserved', { bytes: formatBytes(memory.reserved) })}>
          <span className="memory-reserved" style={{ width: share(memory.reserved) }} />
        </Tooltip>
      )}
    </div>
  );
}

function DeviceUse({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { search } = useLocation();
  if (device.unusable) return <span className="device-unusable">{pick(device.unusable)}</span>;
  if (device.task_id) {
    return (
      <Link to={{ pathname: `/tasks/${device.task_id}`, search }} title={device.task_id}>
        {t('gpu.heldBy', { id: device.task_id })}
      </Link>
    );
  }
  if (device.processes.length > 0) {
    const names = device.processes.map(({ name, pid, user }) => `${name ?? pid}${user ? ` (${user})` : ''}`);
    return (
      <Tooltip
        title={device.processes.map(({ pid, name, user, bytes }) => (
          <div key={pid}>{[pid, name, user, bytes !== null && formatBytes(bytes)].filter(Boolean).join(' · ')}</div>
        ))}
      >
        <span className="device-others">{t('gpu.others', { names: names.join(', ') })}</span>
      </Tooltip>
    );
  }
  return <span>{t('gpu.idle')}</span>;
}
