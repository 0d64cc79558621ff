import { useTranslation } from 'react-i18next';
import type { TaskView } from '../../api/types';
import type { TextKey } from '../../i18n';
import { formatBytes, formatStep } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { Breakdown, useBasis } from '../estimate/Figures';
import { deviation } from '../estimate/memory';
import { isFinal } from '../queue/status';
import { memoryComparison } from './memory';

const ADJUSTMENTS: Record<string, TextKey> = {
  halve_micro_batch: 'adjustment.batch',
  gradient_checkpointing: 'adjustment.checkpointing',
  load8bit: 'adjustment.load8bit',
  load4bit: 'adjustment.load4bit',
};

/** What the training was expected to need, and what it needed. */
export function MemorySection({ task }: { task: TaskView }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const basis = useBasis();
  const { estimate, adjustments, progress } = task;
  const compared = memoryComparison(task);
  if (!compared && adjustments.length === 0) return null;

  const unknown = t('gpu.unknown');
  const off = estimate && progress.peak_bytes !== null && deviation(estimate.footprint_bytes, progress.peak_bytes);
  const rows: { key: string; label: string; text: string }[] = [];
  if (compared) {
    const { expected, grant, peak } = compared;
    if (expected) {
      const range = { low: formatBytes(expected.low), high: formatBytes(expected.high) };
      const text = `${formatBytes(expected.footprint)} ${t('estimate.range', range)}`;
      rows.push({ key: 'expected', label: t('memory.expected'), text });
    }
    rows.push({
      key: 'grant',
      label: t('estimate.grant'),
      text: grant !== null ? formatBytes(grant) : task.attempt ? t('memory.whole') : unknown,
    });
    if (task.started_at !== null || peak !== null) {
      rows.push({
        key: 'peak',
        label: t(isFinal(task.status) ? 'memory.peak' : 'memory.peakSoFar'),
        text: peak === null ? unknown : formatBytes(peak) + (off ? ` ${t('memory.off', { percent: off })}` : ''),
      });
    }
    if (progress.peak_allocated_bytes !== null) {
      rows.push({ key: 'allocated', label: t('memory.allocated'), text: formatBytes(progress.peak_allocated_bytes) });
    }
  }
  const steps = [
    estimate?.seconds_per_step != null &&
      t('memory.stepExpected', { time: formatStep(estimate.seconds_per_step, language) }),
    progress.seconds_per_step !== null &&
      t('memory.stepMeasured', { time: formatStep(progress.seconds_per_step, language) }),
  ].filter(Boolean);
  if (steps.length > 0) rows.push({ key: 'step', label: t('memory.step'), text: steps.join(' · ') });

  return (
    <section className="task-memory" aria-label={t('memory.title')} data-testid="task-memory">
      <h3>{t('memory.title')}</h3>
      {compared && <Comparison {...compared} />}
      <dl className="estimate-facts cell-number">
        {rows.map(({ key, label, text }) => (
          <div key={key} data-row={key}>
            <dt>
              <span className={`swatch mark-${key}`} aria-hidden />
              {label}
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      {estimate && (
        <details className="estimate-parts">
          <summary>
            {t('estimate.parts')} · <span className="cell-under-inline">{basis(estimate)}</span>
          </summary>
          <Breakdown estimate={estimate} />
        </details>
      )}
      {adjustments.length > 0 && (
        <div data-testid="adjustments">
          <p>{t('adjustment.title')}</p>
          <ol className="adjustments">
            {counted(adjustments).map(({ name, times }) => (
              <li key={name}>
                {name in ADJUSTMENTS ? t(ADJUSTMENTS[name]) : name}
                {times > 1 && ` × ${times}`}
              </li>
            ))}
          </ol>
        </div>
      )}
    </section>
  );
}

/** In their order; the same one twice is one line. */
function counted(adjustments: string[]): { name: string; times: number }[] {
  return [...new Set(adjustments)].map((name) => ({
    name,
    times: adjustments.filter((made) => made === name).length,
  }));
}

/** The expected range, the grant as a line, and the measured peak. */
function Comparison({ scale, expected, grant, peak }: NonNullable<ReturnType<typeof memoryComparison>>) {
  const at = (bytes: number) => `${(100 * bytes) / scale}%`;
  return (
    <div className="comparison" aria-hidden>
      {peak !== null && <span className="mark-peak comparison-peak" style={{ width: at(peak) }} />}
      {expected && (
        <span
          className="mark-expected comparison-range"
          style={{ insetInlineStart: at(expected.low), width: at(Math.max(0, expected.high - expected.low)) }}
        />
      )}
      {grant !== null && <span className="mark-grant comparison-grant" style={{ insetInlineStart: at(grant) }} />}
    </div>
  );
}
