import {
  CheckCircleOutlined,
  ClockCircleOutlined,
  CloseCircleOutlined,
  QuestionCircleOutlined,
} from '@ant-design/icons';
import { Tag } from 'antd';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import type { VerdictCode } from '../../api/types';
import type { TextKey } from '../../i18n';

const VERDICTS: Record<VerdictCode, { text: TextKey; color: string; icon: ReactNode }> = {
  fits_now: { text: 'fits.now', color: 'success', icon: <CheckCircleOutlined /> },
  fits_when_free: { text: 'fits.whenFree', color: 'warning', icon: <ClockCircleOutlined /> },
  does_not_fit: { text: 'fits.not', color: 'error', icon: <CloseCircleOutlined /> },
  unknown: { text: 'fits.unknown', color: 'default', icon: <QuestionCircleOutlined /> },
};

/** Whether it fits, as a word, a sign and a colour. */
export function VerdictTag({ code }: { code: VerdictCode }) {
  const { t } = useTranslation();
  const { text, color, icon } = VERDICTS[code] ?? VERDICTS.unknown;
  return (
    <Tag color={color} icon={icon} data-testid="verdict" data-verdict={code}>
      {t(text)}
    </Tag>
  );
}

/** The same beside a sentence that says it in words. */
export function VerdictSentence({ code, children }: { code: VerdictCode; children: string }) {
  const { color, icon } = VERDICTS[code] ?? VERDICTS.unknown;
  return (
    <p className="verdict" aria-live="polite" data-testid="verdict" data-verdict={code}>
      <span className={`verdict-${color}`} aria-hidden>
        {icon}
      </span>
      <span className="verdict-words">{children}</span>
    </p>
  );
}
