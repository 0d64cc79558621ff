import { DeleteOutlined, EditOutlined, UserAddOutlined } from '@ant-design/icons';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Button, Popconfirm, Table, Tag } from 'antd';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { keys } from '../../api/queries';
import type { AccountView, Me } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatTime } from '../../shared/format';
import { IconButton } from '../../shared/IconButton';
import { usePreferences } from '../../shared/preferences';
import { useAction } from '../../shared/useAction';
import { QuotaText } from './QuotaText';
import { roleText } from './roles';
import { Tokens } from './Tokens';
import { UserDialog } from './UserDialog';

/** What the role of an account comes to, in the words of a token's scope. */
const ACCESS: Record<string, string> = { owner: 'admin', member: 'submit', viewer: 'read' };

/** Everybody who can sign in; for owners. */
export function UsersTab({ me }: { me: Me }) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const client = useQueryClient();
  const { data, error, isPending } = useQuery({ queryKey: keys.accounts, queryFn: api.accounts });
  /** Whom the dialog is about: `new`, or nobody while it is closed. */
  const [edited, setEdited] = useState<AccountView | 'new' | null>(null);
  const refresh = () => void client.invalidateQueries({ queryKey: keys.accounts });
  const remove = useAction(api.removeAccount, refresh);

  return (
    <div className="settings-parts" data-testid="users">
      {!me.authentication && <p className="cell-under settings-note">{t('users.off')}</p>}
      {error && <ErrorNotice error={error} />}
      <div>
        <Button icon={<UserAddOutlined />} onClick={() => setEdited('new')} data-testid="user-new">
          {t('users.add')}
        </Button>
      </div>
      <Table<AccountView>
        rowKey="name"
        size="small"
        loading={isPending}
        dataSource={data ?? []}
        locale={{ emptyText: t('users.none') }}
        pagination={false}
        scroll={{ x: 'max-content' }}
        expandable={{
          expandedRowRender: ({ name, role }) => <Tokens account={name} access={ACCESS[role] ?? 'read'} />,
        }}
        columns={[
          {
            key: 'name',
            title: t('signIn.name'),
            render: (_, { name, has_password }) => (
              <>
                {name} {!has_password && <Tag>{t('users.noPassword')}</Tag>}
              </>
            ),
          },
          { key: 'role', title: t('users.role'), render: (_, { role }) => t(roleText(role)) },
          { key: 'quota', title: t('users.quota'), render: (_, { quota }) => <QuotaText quota={quota} /> },
          { key: 'tokens', title: t('tokens.title'), align: 'right', dataIndex: 'tokens' },
          {
            key: 'created',
            title: t('task.created'),
            render: (_, { created_at }) => formatTime(created_at, language),
          },
          {
            key: 'actions',
            align: 'right',
            render: (_, account) => (
              <div className="task-actions">
                <IconButton
                  title={t('users.change')}
                  label={t('users.changeOf', { name: account.name })}
                  icon={<EditOutlined />}
                  onClick={() => setEdited(account)}
                  data-testid="user-edit"
                />
                <Popconfirm
                  title={t('users.removeConfirm', { name: account.name })}
                  description={<div className="confirm-text">{t('users.removeDetail')}</div>}
                  okText={t('action.delete')}
                  okButtonProps={{ danger: true, 'data-testid': 'confirm-ok' }}
                  cancelText={t('action.back')}
                  onConfirm={() => remove.mutate(account.name)}
                >
                  <IconButton
                    title={t('users.remove')}
                    label={t('users.removeOf', { name: account.name })}
                    icon={<DeleteOutlined />}
                    disabled={me.authentication && account.name === me.name}
                  />
                </Popconfirm>
              </div>
            ),
          },
        ]}
      />
      {edited && (
        <UserDialog
          account={edited === 'new' ? null : edited}
          isSelf={edited !== 'new' && me.authentication && edited.name === me.name}
          onClose={() => setEdited(null)}
          onDone={refresh}
        />
      )}
    </div>
  );
}
