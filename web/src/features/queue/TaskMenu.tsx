import {
  ArrowUpOutlined,
  FlagOutlined,
  MoreOutlined,
  PauseOutlined,
  VerticalAlignTopOutlined,
} from '@ant-design/icons';
import { App, Button, Dropdown, type MenuProps } from 'antd';
import { useTranslation } from 'react-i18next';
import { api } from '../../api/client';
import type { TaskView } from '../../api/types';
import { useAction } from '../../shared/useAction';
import { useMay } from '../../shared/useMay';
import { isPriority, PRIORITIES, type Priority } from './priority';

/** When a task that has not started gets its turn: sooner, later, or not yet. */
export function TaskMenu({ task }: { task: TaskView }) {
  const { t } = useTranslation();
  const { message } = App.useApp();
  const may = useMay();
  const id = task.task_id;
  const hold = useAction(() => api.hold(id));
  const next = useAction(() => api.runNext(id));
  const prioritise = useAction((priority: Priority) => api.prioritise(id, priority));
  const up = useAction(
    () => moveUp(id),
    (moved) => !moved && void message.info(t('queue.alreadyFirst')),
  );

  const queued = task.status === 'queued';
  const items: MenuProps['items'] = [
    ...(queued && may.all
      ? [
          { key: 'next', icon: <VerticalAlignTopOutlined />, label: t('queue.runNext') },
          { key: 'up', icon: <ArrowUpOutlined />, label: t('queue.moveUp') },
        ]
      : []),
    ...(queued ? [{ key: 'hold', icon: <PauseOutlined />, label: t('queue.hold') }] : []),
    {
      key: 'priority',
      icon: <FlagOutlined />,
      label: t('field.priority'),
      children: (Object.keys(PRIORITIES) as Priority[])
        .reverse()
        .map((key) => ({ key, label: t(PRIORITIES[key].text), disabled: key === task.priority })),
    },
  ];
  const onClick = (key: string) => {
    if (isPriority(key)) prioritise.mutate(key);
    else if (key === 'next') next.mutate();
    else if (key === 'up') up.mutate();
    else hold.mutate();
  };

  return (
    <Dropdown trigger={['click']} menu={{ items, onClick: ({ key }) => onClick(key) }}>
      <Button
        type="text"
        size="small"
        icon={<MoreOutlined />}
        loading={hold.isPending || next.isPending || up.isPending || prioritise.isPending}
        aria-label={t('queue.menuOf', { id })}
        data-testid="task-menu"
      />
    </Dropdown>
  );
}

/** Before the one ahead of it in its class; false where there is none. */
async function moveUp(id: string): Promise<boolean> {
  const { waiting } = await api.queue();
  const at = waiting.findIndex((other) => other.task_id === id);
  const ahead = waiting.slice(0, Math.max(0, at)).findLast((other) => other.priority === waiting[at].priority);
  if (!ahead) return false;
  await api.putBefore(id, ahead.task_id);
  return true;
}
