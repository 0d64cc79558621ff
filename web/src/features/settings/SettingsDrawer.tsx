import { Drawer, Tabs } from 'antd';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { useNavigate, useSearchParams } from 'react-router';
import { useMe } from '../../api/queries';
import { useMay } from '../../shared/useMay';
import { AccountTab } from './AccountTab';
import { AuditTab } from './AuditTab';
import { GeneralTab } from './GeneralTab';
import { UsersTab } from './UsersTab';
import './settings.css';

const TABS = ['general', 'account', 'users', 'audit'] as const;

/** The page, one's account, and for owners everybody's. Which tab is open stands in the address. */
export default function SettingsDrawer() {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const [search, setSearch] = useSearchParams();
  const [open, setOpen] = useState(true);
  const { data: me } = useMe();
  const may = useMay();
  const tab = TABS.find((name) => name === search.get('tab')) ?? 'general';
  const isWide = tab === 'users' || tab === 'audit';

  const leave = () => {
    const rest = new URLSearchParams(search);
    rest.delete('tab');
    navigate({ pathname: '/', search: rest.toString() });
  };

  return (
    <Drawer
      open={open}
      onClose={() => setOpen(false)}
      afterOpenChange={(now) => !now && leave()}
      title={t('settings.title')}
      size={isWide ? 960 : 520}
      rootClassName="settings-drawer"
      data-testid="settings-drawer"
    >
      <Tabs
        activeKey={tab}
        onChange={(next) =>
          setSearch(
            (now) => {
              if (next === 'general') now.delete('tab');
              else now.set('tab', next);
              return now;
            },
            { replace: true },
          )
        }
        destroyOnHidden
        items={[
          { key: 'general', label: t('settings.general'), children: <GeneralTab /> },
          ...(me ? [{ key: 'account', label: t('settings.account'), children: <AccountTab me={me} /> }] : []),
          ...(me && may.all
            ? [
                { key: 'users', label: t('settings.users'), children: <UsersTab me={me} /> },
                { key: 'audit', label: t('settings.audit'), children: <AuditTab /> },
              ]
            : []),
        ]}
      />
    </Drawer>
  );
}
