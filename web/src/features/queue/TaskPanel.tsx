import { PlusOutlined } from '@ant-design/icons';
import { useQueryClient } from '@tanstack/react-query';
import { Alert, Button, Empty, Pagination, Segmented, Select, Skeleton, Table, type TableColumnsType } from 'antd';
import { type MouseEvent, useEffect, useMemo, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useNavigate, useSearchParams } from 'react-router';
import { loadRows, useMe, useStudio, useTaskList } from '../../api/queries';
import type { TaskStatus, TaskView } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatCount, formatLoss } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { useLayoutSize } from '../../shared/useLayoutSize';
import { TaskName, TaskProgress, TaskState, TaskTimes } from './cells';
import { GroupMembers } from './GroupMembers';
import { GroupActions, GroupLoss, GroupName, GroupProgress, GroupState, GroupTimes } from './GroupRow';
import { type GroupRow, isGroup, type Row, rowCount, rowsOf } from './groups';
import { QueueBanner, QueueSwitch } from './QueueHead';
import { isStatus, STATUSES } from './status';
import { TaskActions } from './TaskActions';
import { TaskCard } from './TaskCard';
import { totalOf } from './taskList';

const PAGE_ROWS = 10;
const NONE: TaskView[] = [];

/**
 * All tasks, newest first, those that were submitted as one in one row: a table where there is room, cards where not.
 * Filter and page live in the address.
 */
export function TaskPanel() {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const client = useQueryClient();
  const navigate = useNavigate();
  const [search, setSearch] = useSearchParams();
  const size = useLayoutSize();
  const wanted = search.get('status');
  const filter = isStatus(wanted) ? wanted : null;
  const { data: me } = useMe();
  const mine = me?.authentication && search.get('mine') ? me.name : null;
  const all = useTaskList(null, mine);
  const list = useTaskList(filter, mine);
  const studio = useStudio();

  const counts = all.data?.counts ?? {};
  const loaded = list.data?.tasks ?? NONE;
  const allRows = useMemo(() => rowsOf(loaded), [loaded]);
  const total = list.data ? rowCount(list.data, counts) : 0;
  const lastPage = Math.max(1, Math.ceil(total / PAGE_ROWS));
  const page = Math.min(Math.max(1, Number(search.get('page')) || 1), lastPage);
  const rows = allRows.slice((page - 1) * PAGE_ROWS, page * PAGE_ROWS);
  const missing = list.data !== undefined && rows.length < PAGE_ROWS && list.data.nextBefore !== null;

  useEffect(() => {
    if (missing) void loadRows(client, filter, mine, page * PAGE_ROWS).catch(() => {});
  }, [client, filter, mine, page, missing]);

  const change = (key: 'status' | 'mine' | 'page', value: string | null) => {
    setSearch((now) => {
      if (value) now.set(key, value);
      else now.delete(key);
      if (key !== 'page') now.delete('page');
      return now;
    });
  };
  const link = (task: TaskView) => ({ pathname: `/tasks/${task.task_id}`, search: search.toString() });
  const open = (task: TaskView) => (event: MouseEvent) => {
    if (isPlain(event)) navigate(link(task));
  };

  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const toggle = ({ key }: GroupRow) =>
    setOpened((now) => {
      const next = new Set(now);
      if (!next.delete(key)) next.add(key);
      return next;
    });
  const onRowClick = (row: Row) =>
    isGroup(row)
      ? (event: MouseEvent) => {
          if (isPlain(event)) toggle(row);
        }
      : open(row.task);
  const members = (row: GroupRow) => (
    <GroupMembers row={row} filter={filter} narrow={size === 'narrow'} link={link} open={open} />
  );
  const nameOf = (task: TaskView) => (
    <Link to={link(task)} className="task-link" data-testid="task-link">
      <TaskName task={task} />
    </Link>
  );

  const everybody = useTaskList(null).data?.counts ?? {};
  const waiting = everybody.queued ?? 0;
  const limit = studio.data?.queue_warning;
  const columns: TableColumnsType<Row> = [
    {
      key: 'task',
      title: t('table.task'),
      width: '22%',
      render: (_, row) =>
        isGroup(row) ? (
          <GroupName row={row} open={opened.has(row.key)} onToggle={() => toggle(row)} />
        ) : (
          nameOf(row.task)
        ),
    },
    {
      key: 'status',
      title: t('table.status'),
      width: '18%',
      // A waiting task has no progress: its reason takes the room.
      onCell: (row) => ({ colSpan: waits(row) ? 2 : 1 }),
      render: (_, row) => (isGroup(row) ? <GroupState row={row} /> : <TaskState task={row.task} />),
    },
    {
      key: 'progress',
      title: t('table.progress'),
      width: '23%',
      onCell: (row) => ({ colSpan: waits(row) ? 0 : 1 }),
      render: (_, row) => (isGroup(row) ? <GroupProgress row={row} /> : <TaskProgress task={row.task} />),
    },
    {
      key: 'loss',
      title: t('table.loss'),
      width: 76,
      align: 'right',
      render: (_, row) =>
        isGroup(row) ? (
          <GroupLoss row={row} />
        ) : (
          <span className="cell-number" data-testid="task-loss">
            {formatLoss(row.task.progress.loss)}
          </span>
        ),
    },
    {
      key: 'owner',
      title: t('table.owner'),
      width: '8%',
      ellipsis: true,
      render: (_, row) => (isGroup(row) ? row.members[0] : row.task).owner,
    },
    {
      key: 'times',
      title: t('table.times'),
      width: 132,
      render: (_, row) => (isGroup(row) ? <GroupTimes row={row} /> : <TaskTimes task={row.task} />),
    },
    {
      key: 'actions',
      title: <span className="visually-hidden">{t('table.actions')}</span>,
      width: 84,
      align: 'right',
      render: (_, row) => (isGroup(row) ? <GroupActions row={row} /> : <TaskActions task={row.task} />),
    },
  ];

  const empty = filter ? (
    <Empty image={Empty.PRESENTED_IMAGE_SIMPLE} description={t('queue.noneInState')} />
  ) : (
    <Empty image={Empty.PRESENTED_IMAGE_SIMPLE} description={t('queue.empty')} />
  );

  return (
    <section className="panel task-panel" aria-labelledby="tasks-title">
      <header className="panel-head">
        <h2 id="tasks-title">{t('queue.title')}</h2>
        <div className="panel-tools">
          <QueueSwitch />
          {me?.authentication && (
            <Segmented
              value={mine === null ? 'all' : 'mine'}
              onChange={(value) => change('mine', value === 'mine' ? '1' : null)}
              options={[
                { value: 'all', label: t('queue.everybody') },
                { value: 'mine', label: t('queue.mine') },
              ]}
              aria-label={t('table.owner')}
              data-testid="mine-switch"
            />
          )}
          <Select
            className="status-filter"
            value={filter ?? 'all'}
            onChange={(value) => change('status', value === 'all' ? null : value)}
            aria-label={t('queue.filter')}
            data-testid="status-filter"
            options={[
              { value: 'all', label: `${t('queue.all')} (${formatCount(totalOf(counts, null), language)})` },
              ...(Object.keys(STATUSES) as TaskStatus[]).map((status) => ({
                value: status,
                label: `${t(STATUSES[status].text)} (${formatCount(counts[status] ?? 0, language)})`,
              })),
            ]}
          />
          {size !== 'wide' && (
            <Button
              type="primary"
              icon={<PlusOutlined />}
              onClick={() => navigate({ pathname: '/new', search: search.toString() })}
              data-testid="open-new-task"
            >
              {t('form.title')}
            </Button>
          )}
        </div>
      </header>
      <QueueBanner />
      {limit !== undefined && waiting > limit && (
        <Alert
          type="warning"
          showIcon
          banner
          role="status"
          data-testid="queue-warning"
          title={t('queue.long', { count: waiting, limit })}
        />
      )}
      {list.isError && <ErrorNotice error={list.error} />}
      {list.isPending ? (
        <Skeleton active className="panel-skeleton" paragraph={{ rows: 6 }} />
      ) : size === 'narrow' ? (
        <>
          {rows.length === 0 && empty}
          <ul className="task-cards" data-testid="task-table">
            {rows.map((row) =>
              isGroup(row) ? (
                <li key={row.key} className="task-card" data-testid="group-row" data-group-id={row.group}>
                  <div className="task-card-head">
                    <GroupName row={row} open={opened.has(row.key)} onToggle={() => toggle(row)} />
                    <GroupActions row={row} />
                  </div>
                  <GroupState row={row} />
                  <GroupProgress row={row} />
                  {opened.has(row.key) && members(row)}
                </li>
              ) : (
                <TaskCard key={row.key} task={row.task} title={nameOf(row.task)} onClick={open(row.task)} />
              ),
            )}
          </ul>
          {total > PAGE_ROWS && (
            <Pagination
              simple
              align="center"
              current={page}
              pageSize={PAGE_ROWS}
              total={total}
              onChange={(next) => change('page', next > 1 ? String(next) : null)}
            />
          )}
        </>
      ) : (
        <Table<Row>
          data-testid="task-table"
          rowKey="key"
          size="middle"
          tableLayout="fixed"
          columns={columns}
          dataSource={rows}
          locale={{ emptyText: empty }}
          expandable={{
            showExpandColumn: false,
            expandedRowKeys: [...opened],
            expandedRowRender: (row) => isGroup(row) && members(row),
            rowExpandable: isGroup,
          }}
          onRow={(row) => ({ onClick: onRowClick(row), ...marks(row) }) as object}
          pagination={{
            current: page,
            pageSize: PAGE_ROWS,
            total,
            showSizeChanger: false,
            hideOnSinglePage: true,
            showTotal: () => t('queue.total', { count: formatCount(totalOf(counts, filter), language) }),
            onChange: (next) => change('page', next > 1 ? String(next) : null),
          }}
        />
      )}
    </section>
  );
}

/** Whether the reason for waiting takes the room of the progress. */
const waits = (row: Row) => !isGroup(row) && row.task.wait !== null;

/** Buttons, links and pop-ups within a row answer for themselves. */
function isPlain({ target, currentTarget }: MouseEvent): boolean {
  return currentTarget.contains(target as Node) && !(target as HTMLElement).closest('a, button');
}

/** What tests know the row by. */
function marks(row: Row) {
  if (isGroup(row)) return { 'data-testid': 'group-row', 'data-group-id': row.group };
  const { task_id, status } = row.task;
  return { 'data-testid': 'task-row', 'data-task-id': task_id, 'data-status': status };
}
