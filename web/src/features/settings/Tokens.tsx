import { DeleteOutlined, PlusOutlined } from '@ant-design/icons';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Alert, Button, Form, Input, InputNumber, Popconfirm, Select, Space, Table, Typography } from 'antd';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import { keys, useMe } from '../../api/queries';
import type { TokenView } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatTime } from '../../shared/format';
import { IconButton } from '../../shared/IconButton';
import { usePreferences } from '../../shared/preferences';
import { useAction } from '../../shared/useAction';
import { SCOPES, type Scope, scopeText } from './roles';

interface TokensProps {
  account: string;
  /** What the account may do at most. */
  access: string;
}

/** The tokens of one account. Only owners see those of others. */
export function Tokens({ account, access }: TokensProps) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const client = useQueryClient();
  const { data: me } = useMe();
  const all = me?.name !== account;
  const { data, error, isPending } = useQuery({ queryKey: keys.tokens(all), queryFn: () => api.tokens(all) });
  const [isOpen, setOpen] = useState(false);
  const refresh = () => {
    void client.invalidateQueries({ queryKey: keys.allTokens });
    void client.invalidateQueries({ queryKey: keys.accounts });
  };
  const create = useAction(api.createToken, () => {
    setOpen(false);
    refresh();
  });
  const revoke = useAction(api.revokeToken, refresh);
  const day = (at: string | null, none: string) => (at ? formatTime(at, language) : none);

  return (
    <section className="tokens" aria-label={t('tokens.title')} data-testid="tokens">
      <div className="tokens-head">
        <h3>{t('tokens.title')}</h3>
        <Button size="small" icon={<PlusOutlined />} onClick={() => setOpen(!isOpen)} data-testid="token-new">
          {t('tokens.new')}
        </Button>
      </div>
      {error && <ErrorNotice error={error} />}
      {isOpen && (
        <TokenForm
          access={access}
          isPending={create.isPending}
          onCreate={({ name, scope, days }) =>
            create.mutate({ name, scope, account, ...(days ? { expires_in_days: days } : {}) })
          }
        />
      )}
      {create.data && (
        <Alert
          type="success"
          showIcon
          closable={{ onClose: create.reset, 'aria-label': t('action.close') }}
          title={t('tokens.once', { name: create.data.name })}
          description={
            <Typography.Text copyable code className="path" data-testid="token-secret">
              {create.data.secret}
            </Typography.Text>
          }
        />
      )}
      <Table<TokenView>
        rowKey="id"
        size="small"
        loading={isPending}
        dataSource={data?.filter((token) => token.account === account) ?? []}
        locale={{ emptyText: t('tokens.none') }}
        pagination={false}
        scroll={{ x: 'max-content' }}
        columns={[
          { key: 'name', title: t('tokens.name'), dataIndex: 'name' },
          { key: 'scope', title: t('tokens.scope'), render: (_, { scope }) => t(scopeText(scope)) },
          {
            key: 'used',
            title: t('tokens.used'),
            render: (_, { last_used_at }) => day(last_used_at, t('tokens.unused')),
          },
          {
            key: 'expires',
            title: t('tokens.expires'),
            render: (_, { expires_at }) => day(expires_at, t('tokens.never')),
          },
          {
            key: 'actions',
            align: 'right',
            render: (_, token) => (
              <Popconfirm
                title={t('tokens.revokeConfirm', { name: token.name })}
                okText={t('tokens.revoke')}
                okButtonProps={{ danger: true, 'data-testid': 'confirm-ok' }}
                cancelText={t('action.back')}
                onConfirm={() => revoke.mutate(token.id)}
              >
                <IconButton title={t('tokens.revoke')} icon={<DeleteOutlined />} />
              </Popconfirm>
            ),
          },
        ]}
      />
    </section>
  );
}

interface TokenFields {
  name: string;
  scope: Scope;
  days?: number | null;
}

interface TokenFormProps {
  access: string;
  isPending: boolean;
  onCreate: (fields: TokenFields) => void;
}

function TokenForm({ access, isPending, onCreate }: TokenFormProps) {
  const { t } = useTranslation();
  const scopes = Object.keys(SCOPES) as Scope[];
  const most = Math.max(0, scopes.indexOf(access as Scope));
  const missing = { required: true, message: t('signIn.missing') };
  return (
    <Form<TokenFields>
      layout="vertical"
      initialValues={{ scope: scopes[Math.min(1, most)] }}
      onFinish={onCreate}
      requiredMark={false}
      className="token-form"
    >
      <Form.Item name="name" label={t('tokens.name')} rules={[missing]}>
        <Input maxLength={64} placeholder="ci" data-testid="token-name" />
      </Form.Item>
      <Form.Item name="scope" label={t('tokens.scope')}>
        <Select
          popupMatchSelectWidth={false}
          options={scopes.slice(0, most + 1).map((scope) => ({ value: scope, label: t(SCOPES[scope]) }))}
        />
      </Form.Item>
      <Form.Item label={t('tokens.days')}>
        <Space.Compact block>
          <Form.Item name="days" noStyle>
            <InputNumber className="full" min={1} max={3650} precision={0} placeholder={t('tokens.never')} />
          </Form.Item>
          <Button type="primary" htmlType="submit" loading={isPending} data-testid="token-create">
            {t('tokens.create')}
          </Button>
        </Space.Compact>
      </Form.Item>
    </Form>
  );
}
