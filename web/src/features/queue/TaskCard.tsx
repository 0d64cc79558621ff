import type { MouseEvent, ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import type { TaskView } from '../../api/types';
import { formatLoss } from '../../shared/format';
import { TaskProgress, TaskState, TaskTimes } from './cells';
import { TaskActions } from './TaskActions';

interface TaskCardProps {
  task: TaskView;
  title: ReactNode;
  onClick: (event: MouseEvent) => void;
}

/** A task where there is no room for a table. */
export function TaskCard({ task, title, onClick }: TaskCardProps) {
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
        {title}
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
