import { Alert, Drawer, Empty, Result, Skeleton, Tabs } from 'antd';
import { lazy, Suspense, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { useNavigate, useParams, useSearchParams } from 'react-router';
import { ApiError } from '../../api/client';
import { useTask } from '../../api/queries';
import type { TaskView } from '../../api/types';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { useMay } from '../../shared/useMay';
import { taskTitle } from '../queue/cells';
import { StatusTag } from '../queue/StatusTag';
import { TaskActions } from '../queue/TaskActions';
import { ConfigTab } from './ConfigTab';
import { LogTab } from './LogTab';
import { SummaryTab } from './SummaryTab';
import { WhyTab } from './WhyTab';
import './task.css';

const ChartsTab = lazy(() => import('./ChartsTab'));

const TABS = ['summary', 'why', 'log', 'charts', 'config'] as const;

/** One task in full. Which tab is open stands in the address. */
export default function TaskDrawer() {
  const { t } = useTranslation();
  const { taskId = '' } = useParams();
  const navigate = useNavigate();
  const [search, setSearch] = useSearchParams();
  const [open, setOpen] = useState(true);
  const { data: task, error } = useTask(taskId);
  const tab = TABS.find((name) => name === search.get('tab')) ?? 'summary';

  const leave = () => {
    const rest = new URLSearchParams(search);
    rest.delete('tab');
    navigate({ pathname: '/', search: rest.toString() });
  };
  const gone = error instanceof ApiError && error.status === 404;

  return (
    <Drawer
      open={open}
      onClose={() => setOpen(false)}
      afterOpenChange={(now) => !now && leave()}
      size={920}
      rootClassName="task-drawer"
      title={task && !gone ? <DrawerTitle task={task} /> : taskId}
      extra={task && !gone && <TaskActions task={task} onDeleted={() => setOpen(false)} />}
      data-testid="task-drawer"
    >
      {gone ? (
        <Result status="404" title={t('task.gone')} subTitle={taskId} />
      ) : error && !task ? (
        <ErrorNotice error={error} />
      ) : !task ? (
        <Skeleton active paragraph={{ rows: 8 }} />
      ) : (
        <Tabs
          activeKey={tab}
          onChange={(next) =>
            setSearch(
              (now) => {
                if (next === 'summary') now.delete('tab');
                else now.set('tab', next);
                return now;
              },
              { replace: true },
            )
          }
          destroyOnHidden
          items={[
            { key: 'summary', label: t('task.summary'), children: <SummaryTab task={task} /> },
            { key: 'why', label: t('task.why'), children: <WhyTab task={task} /> },
            { key: 'log', label: t('task.log'), children: <Log task={task} /> },
            {
              key: 'charts',
              label: t('task.charts'),
              children: (
                <Suspense fallback={<Skeleton active paragraph={{ rows: 8 }} />}>
                  <ChartsTab taskId={taskId} />
                </Suspense>
              ),
            },
            { key: 'config', label: t('task.config'), children: <ConfigTab task={task} /> },
          ]}
        />
      )}
      {error && task && !gone && <Alert type="warning" banner title={t('connection.away')} />}
    </Drawer>
  );
}

/** What a task prints is for whoever submitted it, and for owners. */
function Log({ task }: { task: TaskView }) {
  const { t } = useTranslation();
  const may = useMay();
  if (may.see(task.owner)) return <LogTab key={task.task_id} taskId={task.task_id} />;
  return <Empty description={t('log.private', { owner: task.owner })} data-testid="log-private" />;
}

function DrawerTitle({ task }: { task: TaskView }) {
  return (
    <div className="drawer-title">
      <span className="cell-main" title={task.model_name}>
        {taskTitle(task)}
      </span>
      <StatusTag task={task} />
    </div>
  );
}
