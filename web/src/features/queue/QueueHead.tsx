import { CaretRightOutlined, PauseOutlined, StopOutlined } from '@ant-design/icons';
import { useQueryClient } from '@tanstack/react-query';
import { Alert, Button, Popconfirm, Space } from 'antd';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { keys, useQueue } from '../../api/queries';
import type { QueueControl, QueueView } from '../../api/types';
import { formatTime } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { useAction } from '../../shared/useAction';
import { useMay } from '../../shared/useMay';

/** Pause, drain, resume: for those who may. */
export function QueueSwitch() {
  const { t } = useTranslation();
  const may = useMay();
  const { data } = useQueue();
  const change = useSwitch();
  if (!data || !may.all) return null;
  if (data.mode !== 'open') {
    return (
      <Button
        type="primary"
        icon={<CaretRightOutlined />}
        loading={change.isPending}
        onClick={() => change.mutate('resume')}
        data-testid="queue-resume"
      >
        {t('queue.resume')}
      </Button>
    );
  }
  return (
    <Space.Compact>
      <Button
        icon={<PauseOutlined />}
        loading={change.isPending}
        title={t('queue.pauseDetail')}
        onClick={() => change.mutate('pause')}
        data-testid="queue-pause"
      >
        {t('queue.pause')}
      </Button>
      <Popconfirm
        title={t('queue.drainConfirm')}
        description={<div className="confirm-text">{t('queue.drainDetail')}</div>}
        okText={t('queue.drain')}
        okButtonProps={{ 'data-testid': 'confirm-ok' }}
        cancelText={t('action.back')}
        onConfirm={() => change.mutate('drain')}
      >
        <Button icon={<StopOutlined />} title={t('queue.drainDetail')} data-testid="queue-drain">
          {t('queue.drain')}
        </Button>
      </Popconfirm>
    </Space.Compact>
  );
}

function useSwitch() {
  const client = useQueryClient();
  return useAction(api.switchQueue, (control: QueueControl) =>
    client.setQueryData<QueueView>(keys.queue, (queue) => queue && { ...queue, ...control }),
  );
}

/** What keeps tasks from starting or from being taken, whichever they are. */
export function QueueBanner() {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { data } = useQueue();
  if (!data) return null;
  const { mode, by, since, start_hours_closed_until: closed } = data;
  const who = { by: by ?? t('gpu.unknown'), since: since ? formatTime(since, language) : t('gpu.unknown') };
  return (
    <>
      {mode !== 'open' && (
        <Alert
          type="warning"
          showIcon
          banner
          role="status"
          data-testid="queue-mode"
          data-mode={mode}
          title={mode === 'paused' ? t('queue.paused', who) : t('queue.draining', who)}
        />
      )}
      {closed && (
        <Alert
          type="info"
          showIcon
          banner
          role="status"
          data-testid="quiet-hours"
          title={t('queue.quiet', { until: formatTime(closed, language) })}
        />
      )}
    </>
  );
}
