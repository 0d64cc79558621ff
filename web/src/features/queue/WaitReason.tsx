import {
  ClockCircleOutlined,
  CloudServerOutlined,
  ExclamationCircleOutlined,
  HddOutlined,
  HourglassOutlined,
  LinkOutlined,
  PauseCircleOutlined,
  ReloadOutlined,
  ScheduleOutlined,
  UserOutlined,
} from '@ant-design/icons';
import type { ReactNode } from 'react';
import type { WaitView } from '../../api/types';
import { useBilingual } from '../../shared/preferences';

/** `act`: it waits until somebody does something; `switched`: somebody wanted it so; else time or other tasks end it. */
export type WaitTone = 'act' | 'switched' | 'normal';

interface Sign {
  icon: ReactNode;
  tone: WaitTone;
}

const SIGNS: Record<string, Sign> = {
  no_usable_device: { icon: <ExclamationCircleOutlined />, tone: 'act' },
  too_large: { icon: <ExclamationCircleOutlined />, tone: 'act' },
  too_many_devices: { icon: <ExclamationCircleOutlined />, tone: 'act' },
  device_unusable: { icon: <ExclamationCircleOutlined />, tone: 'act' },
  trial_failed: { icon: <ExclamationCircleOutlined />, tone: 'act' },
  disk_full: { icon: <HddOutlined />, tone: 'act' },
  host_memory: { icon: <HddOutlined />, tone: 'act' },
  queue_paused: { icon: <PauseCircleOutlined />, tone: 'switched' },
  quiet_hours: { icon: <ScheduleOutlined />, tone: 'switched' },
  not_before: { icon: <ScheduleOutlined />, tone: 'switched' },
  quota: { icon: <UserOutlined />, tone: 'switched' },
  retry: { icon: <ReloadOutlined />, tone: 'normal' },
  dependency: { icon: <LinkOutlined />, tone: 'normal' },
  reclaimed: { icon: <CloudServerOutlined />, tone: 'normal' },
  foreign_use: { icon: <UserOutlined />, tone: 'normal' },
  detecting: { icon: <ClockCircleOutlined />, tone: 'normal' },
};

export const waitSign = (code: string): Sign => SIGNS[code] ?? { icon: <HourglassOutlined />, tone: 'normal' };

/** The studio's sentence, with a sign of its kind before it. */
export function WaitReason({ wait }: { wait: WaitView }) {
  const pick = useBilingual();
  const { icon, tone } = waitSign(wait.code);
  return (
    <span
      className="cell-under cell-lines wait-reason"
      title={pick(wait)}
      data-testid="wait-reason"
      data-code={wait.code}
      data-tone={tone}
    >
      <span className="wait-sign" aria-hidden>
        {icon}
      </span>{' '}
      {pick(wait)}
    </span>
  );
}
