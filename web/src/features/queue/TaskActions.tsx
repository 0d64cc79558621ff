import { CloseCircleOutlined, DeleteOutlined, DownloadOutlined, PlayCircleOutlined } from '@ant-design/icons';
import { useMutation } from '@tanstack/react-query';
import { App, Button, Popconfirm, Tooltip } from 'antd';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import type { TaskView } from '../../api/types';
import { useErrorText } from '../../shared/ErrorNotice';
import { isFinal } from './status';

/** Download, release, cancel, delete: what the state allows. The list itself changes by the event that follows. */
export function TaskActions({ task, onDeleted }: { task: TaskView; onDeleted?: () => void }) {
  const { t } = useTranslation();
  const { message } = App.useApp();
  const errorText = useErrorText();
  const onError = (error: Error) => void message.error(errorText(error).message);
  const cancel = useMutation({ mutationFn: () => api.cancel(task.task_id), onError });
  const release = useMutation({ mutationFn: () => api.release(task.task_id), onError });
  const remove = useMutation({ mutationFn: () => api.remove(task.task_id), onError, onSuccess: onDeleted });
  const id = task.task_id;

  return (
    <div className="task-actions">
      {task.downloadable && (
        <Tooltip title={t('action.download')}>
          <Button
            type="text"
            size="small"
            icon={<DownloadOutlined />}
            href={api.downloadUrl(id)}
            download
            aria-label={t('action.downloadOf', { id })}
            data-testid="task-download"
          />
        </Tooltip>
      )}
      {task.status === 'pending' && (
        <Tooltip title={t('action.release')}>
          <Button
            type="text"
            size="small"
            icon={<PlayCircleOutlined />}
            loading={release.isPending}
            onClick={() => release.mutate()}
            aria-label={t('action.releaseOf', { id })}
            data-testid="task-release"
          />
        </Tooltip>
      )}
      {isFinal(task.status) ? (
        <Popconfirm
          title={t('confirm.delete')}
          description={t('confirm.deleteDetail')}
          okText={t('action.delete')}
          okButtonProps={{ danger: true, 'data-testid': 'confirm-ok' }}
          cancelText={t('action.back')}
          onConfirm={() => remove.mutate()}
        >
          <Tooltip title={t('action.delete')}>
            <Button
              type="text"
              size="small"
              icon={<DeleteOutlined />}
              loading={remove.isPending}
              aria-label={t('action.deleteOf', { id })}
              data-testid="task-delete"
            />
          </Tooltip>
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
          <Tooltip title={t('action.cancelTask')}>
            <Button
              type="text"
              size="small"
              icon={<CloseCircleOutlined />}
              loading={cancel.isPending}
              aria-label={t('action.cancelOf', { id })}
              data-testid="task-cancel"
            />
          </Tooltip>
        </Popconfirm>
      )}
    </div>
  );
}
