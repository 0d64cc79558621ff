import { useTranslation } from 'react-i18next';
import type { DeviceView } from '../../api/types';
import { formatBytes } from '../../shared/format';
import { DeviceFacts, DeviceNotes, DeviceTags } from './DeviceState';
import { MaintenanceSwitch } from './Maintenance';
import { Holders, MemoryBar, MemoryLegend } from './MemoryBar';
import { type DeviceGroup, memoryPicture } from './segments';

/** One device with everything that is known of it. */
export function DeviceCard({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  const picture = memoryPicture(device);
  return (
    <li className="device" data-testid="device" data-device-id={device.id}>
      <div className="device-line">
        <DeviceName device={device} />
        <DeviceFacts device={device} />
      </div>
      <div className="device-tags">
        <DeviceTags device={device} />
      </div>
      {picture ? (
        <>
          <MemoryBar device={device} picture={picture} />
          <div className="device-line">
            <FreeForTasks device={device} />
            <MaintenanceSwitch device={device} />
          </div>
          <MemoryLegend device={device} picture={picture} />
        </>
      ) : (
        <div className="device-line">
          <span className="device-under">{t('gpu.memoryUnknown')}</span>
          <MaintenanceSwitch device={device} />
        </div>
      )}
      <DeviceNotes device={device} missing={picture?.missing ?? 0} />
    </li>
  );
}

/** One line of a device; the rest on demand. For machines with many. */
export function DeviceRow({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  const picture = memoryPicture(device);
  return (
    <li className="device" data-testid="device" data-device-id={device.id}>
      <details className="device-row">
        <summary>
          <DeviceName device={device} />
          <span className="device-tags">
            <DeviceTags device={device} />
          </span>
          {picture ? (
            <MemoryBar device={device} picture={picture} />
          ) : (
            <span className="device-under device-no-bar">{t('gpu.memoryUnknown')}</span>
          )}
          <span className="device-row-end">
            <FreeForTasks device={device} />
            <DeviceFacts device={device} short />
            {picture && <Holders device={device} picture={picture} />}
          </span>
        </summary>
        {picture && <MemoryLegend device={device} picture={picture} />}
        <DeviceFacts device={device} />
        <MaintenanceSwitch device={device} />
      </details>
      <DeviceNotes device={device} missing={picture?.missing ?? 0} />
    </li>
  );
}

/** A GPU that is split, with its instances. */
export function MigCard({ group }: { group: DeviceGroup }) {
  const { t } = useTranslation();
  const [first] = group.devices;
  return (
    <li className="device-group" data-testid="mig-group">
      <div className="device-line">
        <span className="device-name">
          <span className="device-index">MIG</span>
          <span title={group.parent ?? undefined}>{cardName(first.name)}</span>
        </span>
        <span className="device-facts">{t('gpu.instances', { count: group.devices.length })}</span>
      </div>
      <ul>
        {group.devices.map((device) => (
          <DeviceRow key={device.id} device={device} />
        ))}
      </ul>
    </li>
  );
}

/** `NVIDIA H100 80GB HBM3 MIG 3g.40gb` is a slice of an `NVIDIA H100 80GB HBM3`. */
const cardName = (name: string) => name.replace(/ MIG .*$/, '');

function DeviceName({ device }: { device: DeviceView }) {
  const label = device.kind === 'cpu' ? 'CPU' : device.index;
  const details = [device.id, device.pci_bus_id, device.architecture].filter(Boolean).join('\n');
  return (
    <span className="device-name">
      <span className="device-index">{label}</span>
      <span title={details}>{device.mig ? (device.mig.profile ?? device.name) : device.name}</span>
    </span>
  );
}

/** Measured free and promised to nobody: what a new task can have. */
function FreeForTasks({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  if (!device.memory) return null;
  const total = formatBytes(device.memory.total);
  const bytes = device.free_for_tasks_bytes;
  return (
    <span className="device-under cell-number" data-testid="free-for-tasks">
      {bytes === null ? t('gpu.freeUnknown', { total }) : t('gpu.freeForTasks', { bytes: formatBytes(bytes), total })}
    </span>
  );
}
