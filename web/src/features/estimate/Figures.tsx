import { Tooltip } from 'antd';
import { useTranslation } from 'react-i18next';
import type { DeviceView, EstimateView } from '../../api/types';
import { formatBytes } from '../../shared/format';
import { fitPicture, PARTS } from './memory';

/** The estimate on a card: what is taken there, what the training will use and the margin on top. */
export function FitBar({ estimate, device }: { estimate: EstimateView; device: DeviceView }) {
  const { t } = useTranslation();
  const picture = fitPicture(estimate, device);
  if (!picture) return <p className="cell-under estimate-note">{t('estimate.cardUnknown', { name: device.name })}</p>;
  const { scale, total, taken, footprint, margin, free, missing } = picture;
  const name = device.kind === 'cpu' ? device.name : `GPU ${device.index}`;
  const parts = [
    { key: 'taken', bytes: taken, text: t('estimate.taken', { bytes: formatBytes(taken) }) },
    { key: 'footprint', bytes: footprint, text: t('estimate.footprint', { bytes: formatBytes(footprint) }) },
    { key: 'margin', bytes: margin, text: t('estimate.margin', { bytes: formatBytes(margin) }) },
    { key: 'free', bytes: free, text: t('estimate.left', { bytes: formatBytes(free) }) },
  ];
  const end =
    missing > 0
      ? t('estimate.missing', { name, total: formatBytes(total), bytes: formatBytes(missing) })
      : t('estimate.leaves', { name, total: formatBytes(total), bytes: formatBytes(free) });
  return (
    <div className="fit" data-testid="fit-bar">
      <div className="fit-track">
        <div
          className="memory-bar"
          role="img"
          aria-label={[...parts.slice(0, 3).map(({ text }) => text), end].join(', ')}
        >
          {parts
            .filter(({ bytes }) => bytes > 0)
            .map(({ key, bytes, text }) => (
              <Tooltip key={key} title={text}>
                <span className={`segment fit-${key}`} style={{ flexGrow: bytes / scale }} data-kind={key} />
              </Tooltip>
            ))}
        </div>
        {missing > 0 && (
          <span className="fit-end" style={{ insetInlineStart: `${(100 * total) / scale}%` }} aria-hidden />
        )}
      </div>
      <p className="cell-under">{end}</p>
    </div>
  );
}

/** What the memory is needed for, the parts adding up to the footprint. */
export function Breakdown({ estimate }: { estimate: EstimateView }) {
  const { t } = useTranslation();
  const { breakdown, footprint_bytes: whole } = estimate;
  return (
    <ul className="breakdown" data-testid="breakdown">
      {PARTS.filter(({ key }) => breakdown[key] > 0).map(({ key, text }) => (
        <li key={key}>
          <span>{t(text)}</span>
          <span className="breakdown-bar" aria-hidden>
            <span style={{ width: `${Math.min(100, (100 * breakdown[key]) / whole)}%` }} />
          </span>
          <span className="cell-number">{formatBytes(breakdown[key])}</span>
        </li>
      ))}
      <li className="breakdown-sum">
        <span>{t('estimate.sum')}</span>
        <span />
        <span className="cell-number">{formatBytes(whole)}</span>
      </li>
    </ul>
  );
}

/** Where the figures come from. */
export function useBasis(): (estimate: Pick<EstimateView, 'basis' | 'runs'>) => string {
  const { t } = useTranslation();
  return ({ basis, runs }) => {
    if (basis === 'history') return t('estimate.history', { runs: runs ?? 1 });
    return t(basis === 'probe' ? 'estimate.probe' : 'estimate.formula');
  };
}
