import { CheckCircleFilled, CloseCircleFilled, InfoCircleFilled } from '@ant-design/icons';
import { useQuery } from '@tanstack/react-query';
import { Button } from 'antd';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { keys } from '../../api/queries';
import type { TextKey } from '../../i18n';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { usePreferences } from '../../shared/preferences';

const SIGNS: Record<string, { icon: ReactNode; text: TextKey; tone: string }> = {
  ok: { icon: <CheckCircleFilled />, text: 'doctor.ok', tone: 'success' },
  problem: { icon: <CloseCircleFilled />, text: 'doctor.problem', tone: 'error' },
  note: { icon: <InfoCircleFilled />, text: 'doctor.note', tone: 'info' },
};

/** What keeps GPUs from being seen or used, and what to do about it. It takes seconds, so it runs on demand. */
export function Doctor() {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { data, error, isFetching, refetch } = useQuery({ queryKey: keys.doctor, queryFn: api.doctor, enabled: false });
  const problems = data?.filter(({ status }) => status === 'problem').length ?? 0;
  return (
    <section className="doctor" aria-label={t('doctor.title')} data-testid="doctor">
      <h3>{t('doctor.title')}</h3>
      <Button onClick={() => refetch()} loading={isFetching} data-testid="doctor-run">
        {t(data ? 'doctor.again' : 'doctor.run')}
      </Button>
      {error && <ErrorNotice error={error} />}
      <div role="status">
        {data && !isFetching && (problems > 0 ? t('doctor.problems', { count: problems }) : t('doctor.fine'))}
      </div>
      {data && (
        <ul className="checks">
          {data.map(({ subject, status, zh, en, next_zh, next_en }) => {
            const sign = SIGNS[status] ?? SIGNS.note;
            const next = language === 'zh-CN' ? next_zh : next_en;
            return (
              <li key={`${subject} ${en}`} data-status={status}>
                <span className="check-sign" data-tone={sign.tone}>
                  {sign.icon} {t(sign.text)}
                </span>
                <div>
                  {language === 'zh-CN' ? zh : en} <code className="cell-under-inline">{subject}</code>
                  {next && <div className="check-next">{t('doctor.next', { step: next })}</div>}
                </div>
              </li>
            );
          })}
        </ul>
      )}
    </section>
  );
}
