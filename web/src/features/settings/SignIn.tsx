import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Button, Form, Input } from 'antd';
import { useTranslation } from 'react-i18next';
import { ApiError, api } from '../../api/client';
import { ErrorNotice } from '../../shared/ErrorNotice';

interface Credentials {
  username: string;
  password: string;
}

/** Stands in for the page where the studio asks who is there. */
export function SignIn() {
  const { t } = useTranslation();
  const client = useQueryClient();
  const signIn = useMutation({
    mutationFn: ({ username, password }: Credentials) => api.signIn(username, password),
    onSuccess: () => client.resetQueries(),
  });
  const wrong = signIn.error instanceof ApiError && signIn.error.status === 401;
  return (
    <main className="sign-in">
      <section className="panel" aria-labelledby="sign-in-title">
        <h2 id="sign-in-title">{t('signIn.title')}</h2>
        <Form<Credentials>
          layout="vertical"
          onFinish={(credentials) => signIn.mutate(credentials)}
          requiredMark={false}
          data-testid="sign-in"
        >
          <Form.Item
            name="username"
            label={t('signIn.name')}
            rules={[{ required: true, message: t('signIn.missing') }]}
          >
            <Input autoComplete="username" />
          </Form.Item>
          <Form.Item
            name="password"
            label={t('signIn.password')}
            rules={[{ required: true, message: t('signIn.missing') }]}
          >
            <Input.Password autoComplete="current-password" />
          </Form.Item>
          {signIn.isError && <ErrorNotice error={wrong ? new Error(t('signIn.wrong')) : signIn.error} />}
          <Button type="primary" htmlType="submit" block loading={signIn.isPending}>
            {t('signIn.submit')}
          </Button>
        </Form>
      </section>
    </main>
  );
}
