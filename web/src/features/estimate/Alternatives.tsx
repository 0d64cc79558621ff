import { Button } from 'antd';
import { useTranslation } from 'react-i18next';
import type { AlternativeView, FineTunePatch } from '../../api/types';
import { formatBytes, formatStep } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { VerdictTag } from './Verdict';

interface AlternativesProps {
  alternatives: AlternativeView[];
  /** What the button says. */
  action: string;
  busy?: boolean;
  onUse: (patch: FineTunePatch) => void;
}

/** The nearest configurations that fit, one click each. */
export function Alternatives({ alternatives, action, busy = false, onUse }: AlternativesProps) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  if (alternatives.length === 0) return null;
  return (
    <section className="alternatives" aria-label={t('estimate.alternatives')} data-testid="alternatives">
      <h4>{t('estimate.alternatives')}</h4>
      <ul>
        {alternatives.map(({ changes_zh, changes_en, patch, estimate, verdict }) => {
          const changes = language === 'zh-CN' ? changes_zh : changes_en;
          const facts = [
            formatBytes(estimate.grant_bytes),
            estimate.total_seconds !== null && formatStep(estimate.total_seconds, language),
          ];
          return (
            <li key={changes}>
              <div>
                {changes}
                <div className="cell-under cell-number">
                  <VerdictTag code={verdict.code} /> {facts.filter(Boolean).join(' · ')}
                </div>
              </div>
              <Button
                size="small"
                onClick={() => onUse(patch)}
                disabled={busy}
                aria-label={`${action}: ${changes}`}
                data-testid="use-alternative"
              >
                {action}
              </Button>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
