import { PlusOutlined } from '@ant-design/icons';
import { useQueryClient } from '@tanstack/react-query';
import { Alert, Button, Empty, Pagination, Select, Skeleton, Table, type TableColumnsType } from 'antd';
import { type MouseEvent, useEffect } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useNavigate, useSearchParams } from 'react-router';
import { loadRows, useStudio, useTaskList } from '../../api/queries';
import type { TaskStatus, TaskView } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatCount, formatLoss } from '../../shared/format';
import { usePreferences } from '../../shared/preferences';
import { useLayoutSize } from '../../shared/useLayoutSize';
import { TaskName, TaskProgress, TaskState, TaskTimes } from './cells';
import { isStatus, STATUSES } from './status';
import { TaskActions } from './TaskActions';
import { totalOf } from './taskList';

const PAGE_ROWS = 10;

/** All tasks, newest first: a table where there is room, cards where not. Filter and page live in the address. */
export function TaskPanel() {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const client = useQueryClient();
  const navigate = useNavigate();
  const [search, setSearch] = useSearchParams();
  const size = useLayoutSize();
  const wanted = search.get('status');
  const filter = isStatus(wanted) ? wanted : null;
  const all = useTaskList(null);
  const list = useTaskList(filter);
  const studio = useStudio();

  const counts = all.data?.counts ?? {};
  const loaded = list.data?.tasks ?? [];
  const total = list.data?.nextBefore ? Math.max(totalOf(counts, filter), loaded.length) : loaded.length;
  const lastPage = Math.max(1, Math.ceil(total / PAGE_ROWS));
  const page = Math.min(Math.max(1, Number(search.get('page')) || 1), lastPage);
  const rows = loaded.slice((page - 1) * PAGE_ROWS, page * PAGE_ROWS);
  const missing = list.data !== undefined && rows.length < PAGE_ROWS && list.data.nextBefore !== null;

  useEffect(() => {
    if (missing) void loadRows(client, filter, page * PAGE_ROWS).catch(() => {});
  }, [client, filter, page, missing]);

  const change = (key: 'status' | 'page', value: string | null) => {
    setSearch((now) => {
      if (value) now.set(key, value);
      else now.delete(key);
      if (key === 'status') now.delete('page');
      return now;
    });
  };
  const link = (task: TaskView) => ({ pathname: `/tasks/${task.task_id}`, search: search.toString() });
  const open = (task: TaskView) => (event: MouseEvent) => {
    // Buttons, links and pop-ups within the row answer for themselves.
    const target = event.target as HTMLElement;
    if (event.currentTarget.contains(target) && !target.closest('a, button')) navigate(link(task));
  };

  const waiting = counts.queued ?? 0;
  const limit = studio.data?.queue_warning;
  const columns: TableColumnsType<TaskView> = [
    {
      key: 'task',
      title: t('table.task'),
      width: '22%',
      render: (_, task) => (
        <Link to={link(task)} className="task-link" data-testid="task-link">
          <TaskName task={task} />
        </Link>
      ),
    },
    {
      key: 'status',
      title: t('table.status'),
      width: '18%',
      // A waiting task has no progress: its reason takes the room.
      onCell: (task) => ({ colSpan: task.wait ? 2 : 1 }),
      render: (_, task) => <TaskState task={task} />,
    },
    {
      key: 'progress',
      title: t('table.progress'),
      width: '23%',
      onCell: (task) => ({ colSpan: task.wait ? 0 : 1 }),
      render: (_, task) => <TaskProgress task={task} />,
    },
    {
      key: 'loss',
      title: t('table.loss'),
      width: 76,
      align: 'right',
      render: (_, task) => (
        <span className="cell-number" data-testid="task-loss">
          {formatLoss(task.progress.loss)}
        </span>
      ),
    },
    { key: 'owner', title: t('table.owner'), width: '8%', ellipsis: true, dataIndex: 'owner' },
    { key: 'times', title: t('table.times'), width: 132, render: (_, task) => <TaskTimes task={task} /> },
    {
      key: 'actions',
      title: <span className="visually-hidden">{t('table.actions')}</span>,
      width: 84,
      align: 'right',
      render: (_, task) => <TaskActions task={task} />,
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
            {rows.map((task) => (
              <TaskCard key={task.task_id} task={task} link={link(task)} onClick={open(task)} />
            ))}
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
        <Table<TaskView>
          data-testid="task-table"
          rowKey="task_id"
          size="middle"
          tableLayout="fixed"
          columns={columns}
          dataSource={rows}
          locale={{ emptyText: empty }}
          onRow={(task) =>
            ({
              onClick: open(task),
              'data-testid': 'task-row',
              'data-task-id': task.task_id,
              'data-status': task.status,
            }) as object
          }
          pagination={{
            current: page,
            pageSize: PAGE_ROWS,
            total,
            showSizeChanger: false,
            hideOnSinglePage: true,
            showTotal: (count) => t('queue.total', { count: formatCount(count, language) }),
            onChange: (next) => change('page', next > 1 ? String(next) : null),
          }}
        />
      )}
    </section>
  );
}

interface TaskCardProps {
  task: TaskView;
  link: { pathname: string; search: string };
  onClick: (event: MouseEvent) => void;
}

function TaskCard({ task, link, onClick }: TaskCardProps) {
  const { t } = useTranslation();
  return (
    // The link inside is what the keyboard reaches.
    // biome-ignore lint/a11y/useKeyWithClickEvents: see above
    <li
      className="task-card"
      data-testid="task-row"
      data-task-id={task.task_id}
      data-status={task.status}
      onClick={onClick}
    >
      <div className="task-card-head">
        <Link to={link} className="task-link" data-testid="task-link">
          <TaskName task={task} />
        </Link>
        <TaskActions task={task} />
      </div>
      <TaskState task={task} />
      {!task.wait && <TaskProgress task={task} />}
      <div className="task-card-foot">
        <span>
          {t('table.loss')} <span className="cell-number">{formatLoss(task.progress.loss)}</span>
        </span>
        <span>{task.owner}</span>
        <TaskTimes task={task} />
      </div>
    </li>
  );
}
