import { Descriptions, Form, Segmented, Typography } from 'antd';
import { useTranslation } from 'react-i18next';
import { useStudio } from '../../api/queries';
import type { Language } from '../../i18n';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatBytes, formatDuration, formatFullTime } from '../../shared/format';
import { type ThemeChoice, usePreferences } from '../../shared/preferences';
import { Doctor } from './Doctor';

/** How the page looks, and what studio it belongs to. */
export function GeneralTab() {
  const { t } = useTranslation();
  const { language, setLanguage, themeChoice, setThemeChoice } = usePreferences();
  const { data, error } = useStudio();
  return (
    <>
      <Form layout="vertical">
        <Form.Item label={t('settings.language')}>
          <Segmented<Language>
            block
            value={language}
            onChange={setLanguage}
            aria-label={t('settings.language')}
            options={[
              { value: 'zh-CN', label: '简体中文' },
              { value: 'en', label: 'English' },
            ]}
          />
        </Form.Item>
        <Form.Item label={t('settings.theme')}>
          <Segmented<ThemeChoice>
            block
            value={themeChoice}
            onChange={setThemeChoice}
            aria-label={t('settings.theme')}
            options={[
              { value: 'system', label: t('theme.system') },
              { value: 'light', label: t('theme.light') },
              { value: 'dark', label: t('theme.dark') },
            ]}
          />
        </Form.Item>
      </Form>
      <h3>{t('settings.studio')}</h3>
      {error && !data && <ErrorNotice error={error} />}
      {data && (
        <Descriptions
          size="small"
          column={1}
          colon={false}
          items={[
            { key: 'version', label: t('settings.version'), children: data.version },
            {
              key: 'home',
              label: t('settings.home'),
              children: (
                <Typography.Text copyable className="path">
                  {data.home}
                </Typography.Text>
              ),
            },
            { key: 'started', label: t('settings.running'), children: formatFullTime(data.started_at, language) },
            { key: 'pid', label: t('settings.pid'), children: data.pid },
            {
              key: 'limit',
              label: t('settings.timeLimit'),
              children: formatDuration(data.default_time_limit_seconds, language),
            },
            { key: 'upload', label: t('settings.uploadLimit'), children: formatBytes(data.upload_limit_bytes) },
            { key: 'queue', label: t('settings.queueWarning'), children: data.queue_warning },
            {
              key: 'api',
              label: t('settings.api'),
              children: <a href="/api/openapi.json">/api/openapi.json</a>,
            },
          ]}
        />
      )}
      <Doctor />
    </>
  );
}
