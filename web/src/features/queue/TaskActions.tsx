import { CloseCircleOutlined, DeleteOutlined, DownloadOutlined, PlayCircleOutlined } from '@ant-design/icons';
import { Popconfirm } from 'antd';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import type { TaskView } from '../../api/types';
import { IconButton } from '../../shared/IconButton';
import { useAction } from '../../shared/useAction';
import { useMay } from '../../shared/useMay';
import { isFinal } from './status';
import { TaskMenu } from './TaskMenu';

/** Download, release, cancel, delete: what the state allows. The list itself changes by the event that follows. */
export function TaskActions({ task, onDeleted }: { task: TaskView; onDeleted?: () => void }) {
  const { t } = useTranslation();
  const may = useMay();
  const id = task.task_id;
  const cancel = useAction(() => api.cancel(id));
  const release = useAction(() => api.release(id));
  const remove = useAction(() => api.remove(id), onDeleted);

  if (!may.change(task.owner)) return null;
  return (
    <div className="task-actions">
      {task.downloadable && task.trainer !== 'command' && (
        <IconButton
          title={t('action.download')}
          label={t('action.downloadOf', { id })}
          icon={<DownloadOutlined />}
          href={api.downloadUrl(id)}
          download
          data-testid="task-download"
        />
      )}
      {task.status === 'pending' && (
        <IconButton
          title={t('action.release')}
          label={t('action.releaseOf', { id })}
          icon={<PlayCircleOutlined />}
          loading={release.isPending}
          onClick={() => release.mutate()}
          data-testid="task-release"
        />
      )}
      {(task.status === 'queued' || task.status === 'pending') && <TaskMenu task={task} />}
      {isFinal(task.status) ? (
        <Popconfirm
          title={t('confirm.delete')}
          description={t('confirm.deleteDetail')}
          okText={t('action.delete')}
          okButtonProps={{ danger: true, 'data-testid': 'confirm-ok' }}
          cancelText={t('action.back')}
          onConfirm={() => remove.mutate()}
        >
          <IconButton
            title={t('action.delete')}
            label={t('action.deleteOf', { id })}
            icon={<DeleteOutlined />}
            loading={remove.isPending}
            data-testid="task-delete"
          />
        </Popconfirm>
      ) : (
        <Popconfirm
          title={t('confirm.cancel')}
          description={task.status === 'training' ? t('confirm.cancelTraining') : undefined}
          okText={t('action.cancelTask')}
          okButtonProps={{ danger: true, 'data-testid': 'confirm-ok' }}
          cancelText={t('action.back')}
          onConfirm={() => cancel.mutate()}
        >
          <IconButton
            title={t('action.cancelTask')}
            label={t('action.cancelOf', { id })}
            icon={<CloseCircleOutlined />}
            loading={cancel.isPending}
            data-testid="task-cancel"
          />
        </Popconfirm>
      )}
    </div>
  );
}
