import { Button, Descriptions, Form, Input } from 'antd';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import type { Me } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { useAction } from '../../shared/useAction';
import { QuotaText } from './QuotaText';
import { roleText } from './roles';
import { Tokens } from './Tokens';

/** Who one is here, and one's secrets. */
export function AccountTab({ me }: { me: Me }) {
  const { t } = useTranslation();
  return (
    <div className="settings-parts">
      <Descriptions
        size="small"
        column={1}
        colon={false}
        items={[
          { key: 'name', label: t('signIn.name'), children: <span data-testid="me">{me.name}</span> },
          { key: 'role', label: t('users.role'), children: t(roleText(me.role)) },
          { key: 'quota', label: t('users.quota'), children: <QuotaText quota={me.quota} /> },
        ]}
      />
      {me.authentication ? (
        <Button
          className="sign-out"
          onClick={() => api.signOut().then(() => window.location.assign('/'))}
          data-testid="sign-out"
        >
          {t('signIn.out')}
        </Button>
      ) : (
        <p className="cell-under settings-note">{t('users.off')}</p>
      )}
      {me.authentication && (
        <>
          <Tokens account={me.name} access={me.access} />
          <Password />
        </>
      )}
    </div>
  );
}

interface PasswordForm {
  current: string;
  next: string;
}

function Password() {
  const { t } = useTranslation();
  const change = useAction(
    ({ current, next }: PasswordForm) => api.changePassword(current, next),
    // The session has ended with the old password.
    () => window.location.assign('/'),
  );
  const required = { required: true, message: t('signIn.missing') };
  return (
    <section aria-label={t('password.title')}>
      <h3>{t('password.title')}</h3>
      <Form<PasswordForm> layout="vertical" onFinish={(form) => change.mutate(form)} requiredMark={false}>
        <Form.Item name="current" label={t('password.current')} rules={[required]}>
          <Input.Password autoComplete="current-password" />
        </Form.Item>
        <Form.Item name="next" label={t('password.new')} rules={[required, { min: 8, message: t('password.short') }]}>
          <Input.Password autoComplete="new-password" />
        </Form.Item>
        {change.isError && <ErrorNotice error={change.error} onClose={change.reset} />}
        <Button htmlType="submit" loading={change.isPending}>
          {t('password.change')}
        </Button>
        <p className="cell-under settings-note">{t('password.ends')}</p>
      </Form>
    </section>
  );
}
