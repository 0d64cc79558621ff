import { Alert, Skeleton } from 'antd';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import { useDevices, useEstimate } from '../../api/queries';
import type { EstimateAnswer, EstimateView } from '../../api/types';
import { useErrorText } from '../../shared/ErrorNotice';
import { formatBytes, formatCount, formatStep } from '../../shared/format';
import { useBilingual, usePreferences } from '../../shared/preferences';
import { useDebounced } from '../../shared/useDebounced';
import { useDraft } from '../new-task/DraftProvider';
import { patched, requestOf } from '../new-task/draft';
import { trainerText } from '../new-task/methods';
import { Alternatives } from './Alternatives';
import { Breakdown, FitBar, useBasis } from './Figures';
import { roomiest } from './memory';
import { VerdictSentence } from './Verdict';
import './estimate.css';

/** While somebody types, nothing is asked. */
const TYPING_MS = 400;

/** What the studio expects of the recipe in the form: whether it fits, what it needs, how long it takes. */
export function EstimatePanel() {
  const { t } = useTranslation();
  const { draft } = useDraft();
  const settled = useDebounced(draft, TYPING_MS);
  const request = settled.model.trim() === '' ? null : (requestOf(settled).fine_tune ?? null);
  const { data, error, isPlaceholderData } = useEstimate(request);
  const errorText = useErrorText();
  if (draft.model.trim() === '') return null;
  return (
    <section
      className="estimate"
      aria-label={t('estimate.title')}
      aria-busy={isPlaceholderData || settled !== draft}
      data-testid="estimate"
    >
      <h3>{t('estimate.title')}</h3>
      {error ? (
        <p className="cell-under estimate-note" data-testid="estimate-error">
          {t('estimate.none', { reason: errorText(error).message })}
        </p>
      ) : data ? (
        <Answer answer={data} />
      ) : (
        <Skeleton active title={false} paragraph={{ rows: 2 }} />
      )}
    </section>
  );
}

function Answer({ answer }: { answer: EstimateAnswer }) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { search } = useLocation();
  const { draft, change } = useDraft();
  const devices = useDevices();
  const { estimate, verdict, trainer, alternatives, warnings } = answer;
  const device = roomiest(devices.data?.devices ?? []);
  const gpus = (draft.advanced && draft.overrides.gpus) || 1;
  return (
    <>
      <VerdictSentence code={verdict.code}>{pick(verdict)}</VerdictSentence>
      {estimate && device && <FitBar estimate={estimate} device={device} />}
      {estimate && <Expected estimate={estimate} gpus={gpus} answer={answer} />}
      <Alternatives
        alternatives={alternatives}
        action={t('estimate.use')}
        onUse={(patch) => change(patched(draft, patch))}
      />
      {warnings.map((warning) => (
        <Alert key={warning.code} type="warning" showIcon title={pick(warning)} />
      ))}
      <p className="cell-under estimate-note" data-testid="estimate-trainer">
        {t('task.trainer')}: <strong>{t(trainerText(trainer.name))}</strong> · {pick(trainer)}{' '}
        {!draft.advanced && (
          <button type="button" className="link" onClick={() => change({ advanced: true })}>
            {t('estimate.chooseTrainer')}
          </button>
        )}
      </p>
      {verdict.code !== 'fits_now' && <Link to={{ pathname: '/fits', search }}>{t('fits.open')}</Link>}
    </>
  );
}

function Expected({ estimate, gpus, answer }: { estimate: EstimateView; gpus: number; answer: EstimateAnswer }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const basis = useBasis();
  const { seconds_per_step: step, total_seconds: total } = estimate;
  const unknown = t('gpu.unknown');
  return (
    <>
      <dl className="estimate-facts cell-number">
        <dt>{gpus > 1 ? t('estimate.memoryEach', { count: gpus }) : t('estimate.memory')}</dt>
        <dd data-testid="estimate-memory">
          {formatBytes(estimate.footprint_bytes)}{' '}
          <span className="cell-under-inline">
            {t('estimate.range', {
              low: formatBytes(estimate.footprint_low_bytes),
              high: formatBytes(estimate.footprint_high_bytes),
            })}
          </span>
        </dd>
        <dt>{t('estimate.grant')}</dt>
        <dd>{formatBytes(estimate.grant_bytes)}</dd>
        <dt>{t('estimate.time')}</dt>
        <dd data-testid="estimate-time">
          {total === null ? unknown : formatStep(total, language)}
          {step !== null && (
            <span className="cell-under-inline"> {t('estimate.perStep', { time: formatStep(step, language) })}</span>
          )}
        </dd>
        {answer.largest_max_length !== null && answer.largest_batch_size !== null && (
          <>
            <dt>{t('estimate.largest')}</dt>
            <dd>
              {t('estimate.largestOf', {
                length: formatCount(answer.largest_max_length, language),
                batch: formatCount(answer.largest_batch_size, language),
              })}
            </dd>
          </>
        )}
      </dl>
      <details className="estimate-parts">
        <summary>{t('estimate.parts')}</summary>
        <Breakdown estimate={estimate} />
      </details>
      <p className="cell-under estimate-note">{basis(estimate)}</p>
    </>
  );
}
