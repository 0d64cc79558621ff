import { InboxOutlined } from '@ant-design/icons';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { AutoComplete, Button, Input, Progress, Segmented, Upload } from 'antd';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { ApiError, api } from '../../api/client';
import { keys, useDatasets, useStudio } from '../../api/queries';
import type { DatasetView } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatBytes } from '../../shared/format';
import { useDraft } from '../new-task/DraftProvider';
import type { DatasetSource } from '../new-task/draft';
import { DatasetPreview } from './DatasetPreview';
import { pastedFilename } from './pasted';

/** The data set of the new task: uploaded, pasted, or one that is there already. */
export function DatasetField({ id, invalid, describedBy }: { id: string; invalid: boolean; describedBy?: string }) {
  const { t } = useTranslation();
  const { draft, change } = useDraft();
  const { data: datasets = [] } = useDatasets();
  const chosen = datasets.find(({ path }) => path === draft.dataset);

  return (
    <div className="dataset-field" data-testid="dataset-field">
      <Segmented<DatasetSource>
        block
        value={draft.source}
        onChange={(source) => change({ source })}
        aria-label={t('dataset.source')}
        options={[
          { value: 'upload', label: t('dataset.upload') },
          { value: 'paste', label: t('dataset.paste') },
          { value: 'choose', label: t('dataset.choose') },
        ]}
      />
      {draft.source === 'upload' && <UploadDataset id={id} />}
      {draft.source === 'paste' && <PasteText id={id} />}
      {draft.source === 'choose' && (
        <AutoComplete
          id={id}
          value={draft.dataset}
          onChange={(dataset) => change({ dataset: dataset ?? '' })}
          showSearch={{
            filterOption: (typed, option) =>
              datasets.some(({ path }) => path === typed) || String(option?.value).includes(typed),
          }}
          options={datasets.map((dataset) => ({ value: dataset.path, label: dataset.path, dataset }))}
          optionRender={({ data: option }) => <DatasetOption dataset={(option as { dataset: DatasetView }).dataset} />}
          allowClear
          status={invalid ? 'error' : undefined}
          placeholder={t('dataset.choosePlaceholder')}
          aria-label={t('dataset.choose')}
          aria-invalid={invalid}
          aria-describedby={describedBy}
          data-testid="dataset-choose"
        />
      )}
      {chosen && <DatasetPreview dataset={chosen} onRemoved={() => change({ dataset: '' })} />}
      {!chosen && draft.dataset && draft.source !== 'choose' && (
        <div className="cell-under" title={draft.dataset}>
          {draft.dataset}
        </div>
      )}
    </div>
  );
}

function DatasetOption({ dataset }: { dataset: DatasetView }) {
  const { t } = useTranslation();
  return (
    <div className="option" title={dataset.path}>
      <span className="cell-main">{dataset.filename}</span>
      <span className="cell-under">
        {[
          dataset.format ?? t('dataset.unreadable'),
          dataset.examples !== null && t('dataset.examples', { count: dataset.examples }),
          formatBytes(dataset.bytes),
        ]
          .filter(Boolean)
          .join(' · ')}
      </span>
    </div>
  );
}

/** Takes a data set into the form and into the list. */
function useStored() {
  const client = useQueryClient();
  const { change } = useDraft();
  return (dataset: DatasetView) => {
    client.setQueryData<DatasetView[]>(keys.datasets, (now) => [
      dataset,
      ...(now ?? []).filter(({ path }) => path !== dataset.path),
    ]);
    change({ dataset: dataset.path });
  };
}

function UploadDataset({ id }: { id: string }) {
  const { t } = useTranslation();
  const studio = useStudio();
  const { change } = useDraft();
  const onStored = useStored();
  const [percent, setPercent] = useState(0);
  const limit = studio.data?.upload_limit_bytes;
  const upload = useMutation({
    mutationFn: (file: File) => {
      if (limit !== undefined && file.size > limit) {
        const detail = t('dataset.tooLarge', { size: formatBytes(file.size), limit: formatBytes(limit) });
        throw new ApiError(413, { detail, code: 'too_large' });
      }
      setPercent(0);
      return api.uploadDataset(file, setPercent);
    },
    onMutate: () => change({ dataset: '' }),
    onSuccess: onStored,
  });

  return (
    <>
      <Upload.Dragger
        id={id}
        accept=".json,.jsonl"
        maxCount={1}
        showUploadList={false}
        disabled={upload.isPending}
        customRequest={({ file }) => upload.mutate(file as File)}
        data-testid="dataset-upload"
      >
        <p className="upload-icon">
          <InboxOutlined />
        </p>
        <p>{t('dataset.drop')}</p>
        <p className="cell-under upload-formats">{t('dataset.formats')}</p>
      </Upload.Dragger>
      {upload.isPending && <Progress percent={Math.floor(percent)} size="small" aria-label={t('dataset.uploading')} />}
      {upload.isError && <ErrorNotice error={upload.error} onClose={upload.reset} testId="dataset-error" />}
    </>
  );
}

function PasteText({ id }: { id: string }) {
  const { t } = useTranslation();
  const { draft, change } = useDraft();
  const onStored = useStored();
  const paste = useMutation({
    mutationFn: () => api.pasteDataset(pastedFilename(draft.pasted, new Date()), draft.pasted),
    onMutate: () => change({ dataset: '' }),
    onSuccess: onStored,
  });
  return (
    <>
      <Input.TextArea
        id={id}
        className="mono"
        rows={6}
        value={draft.pasted}
        onChange={(event) => change({ pasted: event.target.value, dataset: '' })}
        placeholder={'{"instruction": "…", "input": "", "output": "…"}\n{"instruction": "…", "output": "…"}'}
        aria-label={t('dataset.paste')}
        data-testid="dataset-text"
      />
      <Button
        onClick={() => paste.mutate()}
        loading={paste.isPending}
        disabled={draft.pasted.trim() === ''}
        data-testid="dataset-text-use"
      >
        {t('dataset.useText')}
      </Button>
      {paste.isError && <ErrorNotice error={paste.error} onClose={paste.reset} testId="dataset-error" />}
    </>
  );
}
