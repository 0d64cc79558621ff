import { CheckCircleFilled, DeleteOutlined } from '@ant-design/icons';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { App, Button, Popconfirm } from 'antd';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { keys } from '../../api/queries';
import type { DatasetView } from '../../api/types';
import { useErrorText } from '../../shared/ErrorNotice';
import { formatBytes } from '../../shared/format';

/** What the studio understood of a data set: its figures and first examples. */
export function DatasetPreview({ dataset, onRemoved }: { dataset: DatasetView; onRemoved: () => void }) {
  const { t } = useTranslation();
  const client = useQueryClient();
  const { message } = App.useApp();
  const errorText = useErrorText();
  const remove = useMutation({
    mutationFn: () => api.removeDataset(dataset.filename),
    onSuccess: () => {
      onRemoved();
      void client.invalidateQueries({ queryKey: keys.datasets });
    },
    onError: (error) => void message.error(errorText(error).message),
  });

  return (
    <div className="dataset-preview" data-testid="dataset-preview" role="status">
      <div className="dataset-preview-head">
        <CheckCircleFilled className="dataset-ok" />
        <span className="cell-main" title={dataset.path}>
          {dataset.filename}
        </span>
        <Popconfirm
          title={t('dataset.removeConfirm')}
          okText={t('action.delete')}
          cancelText={t('action.back')}
          okButtonProps={{ danger: true }}
          onConfirm={() => remove.mutate()}
        >
          <Button
            type="text"
            size="small"
            icon={<DeleteOutlined />}
            loading={remove.isPending}
            aria-label={t('dataset.remove', { name: dataset.filename })}
          />
        </Popconfirm>
      </div>
      <div className="cell-under">
        {[
          dataset.format ?? t('dataset.unreadable'),
          dataset.examples !== null && t('dataset.examples', { count: dataset.examples }),
          formatBytes(dataset.bytes),
        ]
          .filter(Boolean)
          .join(' · ')}
      </div>
      {dataset.preview.length > 0 && (
        <details>
          <summary>{t('dataset.firstExamples')}</summary>
          <ol className="examples">
            {dataset.preview.map((example, index) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: the list never changes
              <li key={index}>
                <div className="example-prompt">{example.prompt}</div>
                <div className="example-answer">{example.answer}</div>
              </li>
            ))}
          </ol>
        </details>
      )}
    </div>
  );
}
