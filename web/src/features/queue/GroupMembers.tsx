import { Pagination, Table, type TableColumnsType } from 'antd';
import { type MouseEvent, useState } from 'react';
import { Link, type To } from 'react-router';
import type { TaskStatus, TaskView } from '../../api/types';
import { formatLoss } from '../../shared/format';
import { TaskProgress, TaskState, TaskTimes } from './cells';
import { useMembers } from './GroupRow';
import type { GroupRow } from './groups';
import { TaskActions } from './TaskActions';
import { TaskCard } from './TaskCard';

const PAGE_ROWS = 12;

interface GroupMembersProps {
  row: GroupRow;
  filter: TaskStatus | null;
  /** Cards, where there is no room for a table. */
  narrow: boolean;
  link: (task: TaskView) => To;
  open: (task: TaskView) => (event: MouseEvent) => void;
}

/** The members in the group's order, each under what sets it apart; those of the chosen state only. */
export function GroupMembers({ row, filter, narrow, link, open }: GroupMembersProps) {
  const [page, setPage] = useState(1);
  const members = useMembers(row).filter((task) => filter === null || task.status === filter);
  const last = Math.max(1, Math.ceil(members.length / PAGE_ROWS));
  const current = Math.min(page, last);
  const pagination = {
    current,
    pageSize: PAGE_ROWS,
    total: members.length,
    size: 'small' as const,
    showSizeChanger: false,
    hideOnSinglePage: true,
    onChange: setPage,
  };
  const label = (task: TaskView) => (
    <Link to={link(task)} className="task-link" data-testid="task-link">
      <span className="cell-main member-label" title={task.group?.label}>
        {task.group?.label || task.task_id}
      </span>
    </Link>
  );

  if (narrow) {
    const shown = members.slice((current - 1) * PAGE_ROWS, current * PAGE_ROWS);
    return (
      <>
        <ul className="task-cards group-cards" data-testid="group-members">
          {shown.map((task) => (
            <TaskCard key={task.task_id} task={task} title={label(task)} onClick={open(task)} />
          ))}
        </ul>
        {members.length > PAGE_ROWS && <Pagination {...pagination} simple align="center" />}
      </>
    );
  }
  const columns: TableColumnsType<TaskView> = [
    { key: 'label', width: '26%', render: (_, task) => label(task) },
    {
      key: 'status',
      width: '22%',
      onCell: (task) => ({ colSpan: task.wait ? 2 : 1 }),
      render: (_, task) => <TaskState task={task} />,
    },
    {
      key: 'progress',
      width: '24%',
      onCell: (task) => ({ colSpan: task.wait ? 0 : 1 }),
      render: (_, task) => <TaskProgress task={task} />,
    },
    {
      key: 'loss',
      width: 76,
      align: 'right',
      render: (_, task) => (
        <span className="cell-number" data-testid="task-loss">
          {formatLoss(task.progress.loss)}
        </span>
      ),
    },
    { key: 'times', width: 132, render: (_, task) => <TaskTimes task={task} /> },
    { key: 'actions', width: 84, align: 'right', render: (_, task) => <TaskActions task={task} /> },
  ];
  return (
    <div data-testid="group-members">
      <Table<TaskView>
        rowKey="task_id"
        size="small"
        tableLayout="fixed"
        showHeader={false}
        columns={columns}
        dataSource={members}
        onRow={(task) =>
          ({
            onClick: open(task),
            'data-testid': 'task-row',
            'data-task-id': task.task_id,
            'data-status': task.status,
          }) as object
        }
        pagination={pagination}
      />
    </div>
  );
}
