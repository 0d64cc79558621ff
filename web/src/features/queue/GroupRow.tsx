import {
  CloseCircleOutlined,
  DeleteOutlined,
  DownOutlined,
  PauseOutlined,
  PlayCircleOutlined,
  RightOutlined,
  TrophyOutlined,
} from '@ant-design/icons';
import { Popconfirm, Progress, Tag } from 'antd';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import { api } from '../../api/client';
import { useGroup } from '../../api/queries';
import type { TaskView } from '../../api/types';
import { formatCount, formatLoss } from '../../shared/format';
import { IconButton } from '../../shared/IconButton';
import { usePreferences } from '../../shared/preferences';
import { useAction } from '../../shared/useAction';
import { useMay } from '../../shared/useMay';
import { groupTitle, TaskTimes } from './cells';
import { type GroupRow, type GroupSummary, spanOf, summaryOf } from './groups';
import { PriorityTag } from './PriorityTag';
import { STATUSES } from './status';

/** The whole group, or as much of it as is loaded. */
export function useMembers(row: GroupRow): TaskView[] {
  const { data } = useGroup(row.group);
  return data && data.tasks.length > 0 ? data.tasks : row.members;
}

interface GroupNameProps {
  row: GroupRow;
  open: boolean;
  onToggle: () => void;
}

/** The name, which opens and closes the list of members. */
export function GroupName({ row, open, onToggle }: GroupNameProps) {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const [first] = useMembers(row);
  const under = [
    t('group.size', { count: formatCount(first.group?.size ?? row.members.length, language) }),
    first.name ? groupTitle({ ...first, name: null }) : null,
  ];
  return (
    <button type="button" className="group-name" aria-expanded={open} onClick={onToggle} data-testid="group-toggle">
      <span className="group-caret" aria-hidden>
        {open ? <DownOutlined /> : <RightOutlined />}
      </span>
      <span className="group-words">
        <span className="cell-main" title={first.model_name}>
          {groupTitle(first)}
        </span>
        <span className="cell-under">{under.filter(Boolean).join(' · ')}</span>
      </span>
    </button>
  );
}

/** `7/12 done`, and what the others do. */
export function GroupState({ row }: { row: GroupRow }) {
  const { t } = useTranslation();
  const members = useMembers(row);
  const { counts, total } = summaryOf(members);
  const done = counts.completed ?? 0;
  const others = (['training', 'preparing', 'queued', 'pending', 'failed', 'cancelled'] as const).filter(
    (status) => counts[status],
  );
  return (
    <>
      <span>
        <Tag color={done === total ? 'green' : counts.training || counts.preparing ? 'blue' : 'default'}>
          <span data-testid="group-done">{t('group.done', { done, total })}</span>
        </Tag>
        <PriorityTag priority={members[0].priority} />
      </span>
      <span className="cell-under cell-lines">
        {others.map((status, index) => (
          <span key={status} className={status === 'failed' ? 'group-failed' : undefined}>
            {index > 0 && ' · '}
            {t('group.count', { count: counts[status] ?? 0, state: t(STATUSES[status].text) })}
          </span>
        ))}
      </span>
    </>
  );
}

export function GroupProgress({ row }: { row: GroupRow }) {
  const { t } = useTranslation();
  const summary = summaryOf(useMembers(row));
  return (
    <>
      <Progress
        percent={summary.percent}
        success={{ percent: summary.completedPercent }}
        size="small"
        status={summary.counts.training ? 'active' : 'normal'}
        format={(percent) => `${Math.floor(percent ?? 0)}%`}
        aria-label={t('table.progress')}
      />
      <Best best={summary.best} />
    </>
  );
}

function Best({ best }: { best: GroupSummary['best'] }) {
  const { t } = useTranslation();
  const { search } = useLocation();
  if (!best) return null;
  const label = best.task.group?.label ?? best.task.task_id;
  return (
    <span className="cell-under cell-lines" data-testid="group-best">
      <TrophyOutlined aria-hidden /> {t('group.best')}{' '}
      <Link to={{ pathname: `/tasks/${best.task.task_id}`, search }} title={label}>
        {label}
      </Link>
    </span>
  );
}

export function GroupLoss({ row }: { row: GroupRow }) {
  return <span className="cell-number">{formatLoss(summaryOf(useMembers(row)).best?.loss ?? null)}</span>;
}

export function GroupTimes({ row }: { row: GroupRow }) {
  return <TaskTimes task={spanOf(useMembers(row))} />;
}

/** For all members at once: whatever the state of some of them allows. */
export function GroupActions({ row }: { row: GroupRow }) {
  const { t } = useTranslation();
  const may = useMay();
  const { counts, total } = summaryOf(useMembers(row));
  const id = row.group;
  const hold = useAction(() => api.holdGroup(id));
  const release = useAction(() => api.releaseGroup(id));
  const cancel = useAction(() => api.cancelGroup(id));
  const remove = useAction(() => api.removeGroup(id));

  if (!may.change(row.members[0].owner)) return null;
  const ended = (counts.completed ?? 0) + (counts.failed ?? 0) + (counts.cancelled ?? 0);
  const sure = (text: string, detail: string, ok: string, act: () => void, button: ReactNode) => (
    <Popconfirm
      title={text}
      description={<div className="confirm-text">{detail}</div>}
      okText={ok}
      okButtonProps={{ danger: true, 'data-testid': 'confirm-ok' }}
      cancelText={t('action.back')}
      onConfirm={act}
    >
      {button}
    </Popconfirm>
  );
  return (
    <div className="task-actions">
      {counts.pending && (
        <IconButton
          title={t('group.release')}
          icon={<PlayCircleOutlined />}
          loading={release.isPending}
          onClick={() => release.mutate()}
          data-testid="group-release"
        />
      )}
      {counts.queued && (
        <IconButton
          title={t('group.hold')}
          icon={<PauseOutlined />}
          loading={hold.isPending}
          onClick={() => hold.mutate()}
          data-testid="group-hold"
        />
      )}
      {ended === total
        ? sure(
            t('group.deleteConfirm', { count: total }),
            t('group.deleteDetail'),
            t('action.delete'),
            remove.mutate,
            <IconButton
              title={t('group.delete')}
              icon={<DeleteOutlined />}
              loading={remove.isPending}
              data-testid="group-delete"
            />,
          )
        : sure(
            t('group.cancelConfirm', { count: total - ended }),
            t('group.cancelDetail'),
            t('group.cancel'),
            cancel.mutate,
            <IconButton
              title={t('group.cancel')}
              icon={<CloseCircleOutlined />}
              loading={cancel.isPending}
              data-testid="group-cancel"
            />,
          )}
    </div>
  );
}
