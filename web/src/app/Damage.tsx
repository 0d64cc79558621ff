import { Alert } from 'antd';
import { useTranslation } from 'react-i18next';
import { useStudio } from '../api/queries';
import { formatTime } from '../shared/format';
import { usePreferences } from '../shared/preferences';

/** What to say of a database that was replaced by a backup, and of one that had none. */
const SENTENCES = {
  studio: ['damage.tasks', 'damage.tasksLost'],
  audit: ['damage.audit', 'damage.auditLost'],
} as const;

/** Says that a database is damaged, or was replaced, as long as the damaged one is kept. */
export function Damage() {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { data } = useStudio();
  const damaged = data?.damaged?.map((database) => (
    <Alert
      key={database}
      type="error"
      showIcon
      title={t(database === 'audit' ? 'damage.auditFound' : 'damage.tasksFound')}
      data-testid="damage"
    />
  ));
  const replaced = data?.recoveries?.map(({ at, database, backup_of }) => {
    const [withBackup, lost] = SENTENCES[database === 'audit' ? 'audit' : 'studio'];
    const times = { at: formatTime(at, language), backup: backup_of ? formatTime(backup_of, language) : '' };
    const sentence = t(backup_of ? withBackup : lost, times);
    return <Alert key={at + database} type="error" showIcon title={sentence} data-testid="damage" />;
  });
  return (
    <>
      {damaged}
      {replaced}
    </>
  );
}
