import { DesktopOutlined, MoonOutlined, SettingOutlined, SunOutlined, TranslationOutlined } from '@ant-design/icons';
import { Button, Dropdown, Tooltip } from 'antd';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import { useLive } from '../api/live';
import { type ThemeChoice, usePreferences } from '../shared/preferences';

export function Header() {
  const { t } = useTranslation();
  const { search } = useLocation();
  const { language, setLanguage, themeChoice, setThemeChoice } = usePreferences();
  const themes: { key: ThemeChoice; label: string; icon: React.ReactNode }[] = [
    { key: 'system', label: t('theme.system'), icon: <DesktopOutlined /> },
    { key: 'light', label: t('theme.light'), icon: <SunOutlined /> },
    { key: 'dark', label: t('theme.dark'), icon: <MoonOutlined /> },
  ];

  return (
    <header className="top">
      <Link to={{ pathname: '/', search }} className="brand">
        <img src="/favicon.svg" alt="" width={26} height={26} />
        <span>SAGE Studio</span>
      </Link>
      <ConnectionState />
      <nav className="top-tools" aria-label={t('nav.tools')}>
        <Button
          type="text"
          icon={<TranslationOutlined />}
          onClick={() => setLanguage(language === 'en' ? 'zh-CN' : 'en')}
          lang={language === 'en' ? 'zh-CN' : 'en'}
          data-testid="language-switch"
        >
          {language === 'en' ? '中文' : 'English'}
        </Button>
        <Dropdown
          trigger={['click']}
          menu={{
            items: themes,
            selectable: true,
            selectedKeys: [themeChoice],
            onClick: ({ key }) => setThemeChoice(key as ThemeChoice),
          }}
        >
          <Button
            type="text"
            icon={themes.find(({ key }) => key === themeChoice)?.icon}
            aria-label={t('settings.theme')}
            data-testid="theme-switch"
          />
        </Dropdown>
        <Tooltip title={t('settings.title')}>
          <Link to={{ pathname: '/settings', search }} aria-label={t('settings.title')} data-testid="open-settings">
            <Button type="text" icon={<SettingOutlined />} tabIndex={-1} aria-hidden />
          </Link>
        </Tooltip>
      </nav>
    </header>
  );
}

/** Says something only while the studio is away. */
function ConnectionState() {
  const { t } = useTranslation();
  const { connection } = useLive();
  return (
    <span className="connection" role="status" data-testid="connection-state" data-state={connection}>
      {connection === 'away' && t('connection.away')}
    </span>
  );
}
