import { Form, Input, InputNumber, Modal, Select } from 'antd';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import type { AccountView, Quota } from '../../api/types';
import type { TextKey } from '../../i18n';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { useAction } from '../../shared/useAction';
import { ROLES, type Role } from './roles';

interface Fields extends Omit<Quota, 'disk_bytes'> {
  name: string;
  role: Role;
  password?: string;
  disk: number | null;
}

const GIB = 1024 ** 3;

const LIMITS: { key: keyof Fields; text: TextKey; step: number; whole: boolean }[] = [
  { key: 'running', text: 'quota.runningLimit', step: 1, whole: true },
  { key: 'queued', text: 'quota.queuedLimit', step: 1, whole: true },
  { key: 'gpus', text: 'quota.gpusLimit', step: 1, whole: true },
  { key: 'gpu_hours_per_day', text: 'quota.gpuHoursLimit', step: 1, whole: false },
  { key: 'disk', text: 'quota.diskLimit', step: 10, whole: false },
];

interface UserDialogProps {
  /** `null`: a new one. */
  account: AccountView | null;
  /** Nobody changes their own role. */
  isSelf: boolean;
  onClose: () => void;
  onDone: () => void;
}

/** Makes an account, or changes its role, password and quota. */
export function UserDialog({ account, isSelf, onClose, onDone }: UserDialogProps) {
  const { t } = useTranslation();
  const [form] = Form.useForm<Fields>();
  const save = useAction(
    ({ name, role, password, disk, weight, running, queued, gpus, gpu_hours_per_day }: Fields) => {
      const limits = { weight: weight ?? 1, running, queued, gpus, gpu_hours_per_day };
      const quota = { ...limits, disk_bytes: disk === null ? null : Math.round(disk * GIB) };
      const changes = { ...(isSelf ? {} : { role }), ...(password ? { password } : {}), quota };
      return account ? api.changeAccount(account.name, changes) : api.addAccount({ name: name.trim(), ...changes });
    },
    () => {
      onDone();
      onClose();
    },
  );
  const { disk_bytes, ...quota } = account?.quota ?? {
    ...{ weight: 1, running: null, queued: null, gpus: null, gpu_hours_per_day: null, disk_bytes: null },
  };
  const initial = {
    ...quota,
    name: account?.name ?? '',
    role: (account?.role ?? 'member') as Role,
    disk: disk_bytes === null ? null : disk_bytes / GIB,
  };

  return (
    <Modal
      open
      title={account ? t('users.changeOf', { name: account.name }) : t('users.add')}
      okText={t('users.save')}
      cancelText={t('action.back')}
      onOk={form.submit}
      onCancel={onClose}
      confirmLoading={save.isPending}
      okButtonProps={{ 'data-testid': 'user-save' }}
      data-testid="user-dialog"
    >
      <Form<Fields>
        form={form}
        layout="vertical"
        initialValues={initial}
        onFinish={(fields) => save.mutate(fields)}
        requiredMark={false}
        autoComplete="off"
      >
        {!account && (
          <Form.Item name="name" label={t('signIn.name')} rules={[{ required: true, message: t('signIn.missing') }]}>
            <Input maxLength={64} autoComplete="off" data-testid="user-name" />
          </Form.Item>
        )}
        <Form.Item name="role" label={t('users.role')} extra={isSelf ? t('users.ownRole') : undefined}>
          <Select
            disabled={isSelf}
            options={(Object.keys(ROLES) as Role[]).map((role) => ({ value: role, label: t(ROLES[role]) }))}
          />
        </Form.Item>
        <Form.Item
          name="password"
          label={t(account ? 'password.new' : 'signIn.password')}
          extra={t(account ? 'users.passwordStays' : 'users.passwordNone')}
          rules={[{ min: 8, message: t('password.short') }]}
        >
          <Input.Password autoComplete="new-password" data-testid="user-password" />
        </Form.Item>
        <div className="quota-fields">
          {LIMITS.map(({ key, text, step, whole }) => (
            <Form.Item key={key} name={key} label={t(text)}>
              <InputNumber
                className="full"
                min={0}
                step={step}
                precision={whole ? 0 : undefined}
                placeholder={t('quota.none')}
              />
            </Form.Item>
          ))}
          <Form.Item name="weight" label={t('quota.weightOf')} tooltip={t('quota.weightHint')}>
            <InputNumber className="full" min={0.01} step={0.5} />
          </Form.Item>
        </div>
        {save.isError && <ErrorNotice error={save.error} onClose={save.reset} />}
      </Form>
    </Modal>
  );
}
