import { ClockCircleOutlined, SyncOutlined } from '@ant-design/icons';
import { Tag, Tooltip } from 'antd';
import { useTranslation } from 'react-i18next';
import type { TaskView } from '../../api/types';
import { useBilingual } from '../../shared/preferences';
import { isRunning, STATUSES } from './status';

/** The state as a coloured word; on a queued task the hover says why it waits. */
export function StatusTag({ task }: { task: Pick<TaskView, 'status' | 'wait' | 'failure'> }) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { text, color } = STATUSES[task.status];
  const icon = isRunning(task.status) ? (
    <SyncOutlined spin />
  ) : task.status === 'queued' ? (
    <ClockCircleOutlined />
  ) : undefined;
  const reason = task.wait ?? task.failure;
  return (
    <Tooltip title={reason ? pick(reason) : undefined}>
      <Tag color={color} icon={icon} className="status-tag" data-testid="status-tag" data-status={task.status}>
        {t(text)}
      </Tag>
    </Tooltip>
  );
}
