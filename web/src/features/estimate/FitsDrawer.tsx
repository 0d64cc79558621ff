import { Alert, Button, Drawer, Empty, Select, Skeleton, Table, type TableColumnsType } from 'antd';
import { useMemo, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { useLocation, useNavigate } from 'react-router';
import { useDatasets, useDevices, useRecommendations } from '../../api/queries';
import type { DeviceView, FineTuneRequest, Recommendation } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatBytes, formatCount, formatStep, lastSegment } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { useLayoutSize } from '../../shared/useLayoutSize';
import { useDraft } from '../new-task/DraftProvider';
import { withRequest } from '../new-task/draft';
import { METHODS } from '../new-task/methods';
import { roomiest } from './memory';
import { type FitRow, fitRows, targetsIn } from './recommendations';
import { VerdictTag } from './Verdict';
import './estimate.css';

/** Which models fit here, with which method, and how long the chosen data set takes. A click fills the form. */
export default function FitsDrawer() {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const { search } = useLocation();
  const size = useLayoutSize();
  const { draft, change } = useDraft();
  const devices = useDevices();
  const datasets = useDatasets();
  const [dataset, setDataset] = useState(draft.dataset);
  const [target, setTarget] = useState<string | null>(null);
  const [open, setOpen] = useState(true);
  const [goesTo, setGoesTo] = useState('/');
  const { data, error } = useRecommendations(dataset);

  const targets = useMemo(() => targetsIn(data?.recommendations ?? []), [data]);
  const wanted = target ?? roomiest(devices.data?.devices ?? [])?.id ?? null;
  const chosen = wanted !== null && targets.includes(wanted) ? wanted : (targets[0] ?? null);
  const rows = useMemo(() => fitRows(data?.recommendations ?? [], chosen), [data, chosen]);

  const use = (request: FineTuneRequest) => {
    change(withRequest(draft, request));
    setGoesTo(size === 'wide' ? '/' : '/new');
    setOpen(false);
  };
  const columns: TableColumnsType<FitRow> = [
    {
      title: t('form.model'),
      dataIndex: 'model',
      fixed: size === 'narrow' ? undefined : 'start',
      width: 190,
      render: (model: string, { parameters }) => (
        <>
          <span className="cell-main" title={model}>
            {lastSegment(model)}
          </span>
          {parameters !== null && <span className="cell-under cell-number">{formatParameters(parameters)}</span>}
        </>
      ),
    },
    ...METHODS.filter(({ key }) => rows.some(({ methods }) => key in methods)).map(({ key, text }) => ({
      title: t(text),
      key,
      width: 180,
      render: (_: unknown, row: FitRow) => {
        const found = row.methods[key];
        return found ? <FitCell found={found} method={t(text)} onUse={use} /> : '–';
      },
    })),
  ];

  return (
    <Drawer
      open={open}
      onClose={() => setOpen(false)}
      afterOpenChange={(now) => !now && navigate({ pathname: goesTo, search })}
      title={t('fits.title')}
      size={1020}
      rootClassName="fits-drawer"
      data-testid="fits-drawer"
    >
      <div className="fits-tools">
        {targets.length > 1 && (
          <Select
            value={chosen}
            onChange={setTarget}
            aria-label={t('fits.on')}
            data-testid="fits-target"
            options={targets.map((id) => ({
              value: id,
              label: targetName(id, devices.data?.devices ?? [], t('fits.all')),
            }))}
          />
        )}
        <Select
          className="fits-dataset"
          value={dataset}
          onChange={setDataset}
          aria-label={t('fits.dataset')}
          data-testid="fits-dataset"
          options={[
            { value: '', label: t('fits.noDataset') },
            ...(datasets.data ?? []).map(({ path, filename }) => ({ value: path, label: filename })),
          ]}
        />
      </div>
      {error && !data ? (
        <ErrorNotice error={error} />
      ) : !data ? (
        <Skeleton active paragraph={{ rows: 8 }} />
      ) : data.detecting ? (
        <Alert type="info" showIcon title={t('gpu.detecting')} />
      ) : rows.length === 0 ? (
        <Empty image={Empty.PRESENTED_IMAGE_SIMPLE} description={t('fits.empty')} />
      ) : (
        <Table<FitRow>
          size="small"
          rowKey="model"
          columns={columns}
          dataSource={rows}
          pagination={false}
          scroll={{ x: 190 * columns.length }}
          data-testid="fits-table"
        />
      )}
    </Drawer>
  );
}

interface FitCellProps {
  found: Recommendation;
  method: string;
  onUse: (request: FineTuneRequest) => void;
}

function FitCell({ found, method, onUse }: FitCellProps) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { estimate, verdict, request, largest_max_length: length, largest_batch_size: batch } = found;
  const lines = [
    estimate && t('fits.needs', { bytes: formatBytes(estimate.grant_bytes) }),
    length !== null && t('fits.length', { length: formatCount(length, language) }),
    batch !== null && t('fits.batch', { batch: formatCount(batch, language) }),
    estimate &&
      request !== null &&
      estimate.total_seconds !== null &&
      t('fits.time', { time: formatStep(estimate.total_seconds, language) }),
  ].filter((line): line is string => Boolean(line));
  return (
    <div className="fit-cell" title={language === 'zh-CN' ? verdict.zh : verdict.en}>
      <VerdictTag code={verdict.code} />
      {lines.map((line) => (
        <span key={line} className="cell-under cell-number">
          {line}
        </span>
      ))}
      {request && (
        <Button
          size="small"
          type="link"
          onClick={() => onUse(request)}
          aria-label={t('fits.useOf', { model: lastSegment(found.model_name), method })}
          data-testid="fits-use"
        >
          {t('estimate.use')}
        </Button>
      )}
    </div>
  );
}

/** `7615616512` → `7.6 B`. */
const formatParameters = (count: number) =>
  count >= 1e9 ? `${(count / 1e9).toFixed(1)} B` : `${Math.max(1, Math.round(count / 1e6))} M`;

function targetName(id: string, devices: DeviceView[], all: string): string {
  if (id === '') return all;
  const device = devices.find((found) => found.id === id);
  if (!device) return id;
  if (device.kind === 'cpu') return device.name;
  return `GPU ${device.index} · ${device.mig?.profile ?? device.name}`;
}
