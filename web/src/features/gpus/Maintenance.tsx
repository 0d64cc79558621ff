import { ToolOutlined } from '@ant-design/icons';
import { useQueryClient } from '@tanstack/react-query';
import { Button, Popconfirm, Tag } from 'antd';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { keys, useQueue } from '../../api/queries';
import type { DeviceView, QueueControl, QueueView } from '../../api/types';
import { formatTime } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { useAction } from '../../shared/useAction';
import { useMay } from '../../shared/useMay';

function useMaintenance(device: DeviceView) {
  const { data } = useQueue();
  return data?.maintenance.find((entry) => entry.device === device.id);
}

/** That nothing new starts here, by whose wish and since when. */
export function MaintenanceTag({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const entry = useMaintenance(device);
  if (!entry) return null;
  return (
    <Tag color="warning" icon={<ToolOutlined />} data-testid="maintenance">
      {t('gpu.maintenance', { by: entry.by, since: formatTime(entry.since, language) })}
    </Tag>
  );
}

/** Takes the device out of the queue, or gives it back: for those who may. */
export function MaintenanceSwitch({ device }: { device: DeviceView }) {
  const { t } = useTranslation();
  const client = useQueryClient();
  const may = useMay();
  const { data } = useQueue();
  const on = useMaintenance(device) !== undefined;
  const change = useAction(
    (wanted: boolean) => api.maintain(device.id, wanted),
    (control: QueueControl) => client.setQueryData<QueueView>(keys.queue, (queue) => queue && { ...queue, ...control }),
  );
  if (!data || !may.all) return null;
  const button = (
    <Button
      type="text"
      size="small"
      className="maintenance-switch"
      icon={<ToolOutlined />}
      loading={change.isPending}
      onClick={on ? () => change.mutate(false) : undefined}
      data-testid="maintenance-switch"
    >
      {t(on ? 'gpu.maintenanceEnd' : 'gpu.maintenanceBegin')}
    </Button>
  );
  if (on) return button;
  return (
    <Popconfirm
      title={t('gpu.maintenanceConfirm')}
      description={<div className="confirm-text">{t('gpu.maintenanceDetail')}</div>}
      okText={t('gpu.maintenanceBegin')}
      okButtonProps={{ 'data-testid': 'confirm-ok' }}
      cancelText={t('action.back')}
      onConfirm={() => change.mutate(true)}
    >
      {button}
    </Popconfirm>
  );
}
