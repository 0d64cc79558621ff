import { App } from 'antd';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { useLive } from '../api/live';
import type { TaskView } from '../api/types';
import { taskTitle } from '../features/queue/cells';
import { isFinal, STATUSES } from '../features/queue/status';
import { useBilingual } from '../shared/preferences';

/** Tells when a task ends, and reads every change of state out to those who listen instead of look. */
export function Notices() {
  const { t } = useTranslation();
  const { notification } = App.useApp();
  const { listen } = useLive();
  const pick = useBilingual();
  const [spoken, setSpoken] = useState('');

  useEffect(() => {
    const states = new Map<string, string>();
    const tell = (task: TaskView) => {
      const title = `${taskTitle(task)}: ${t(STATUSES[task.status].text)}`;
      setSpoken(title);
      // The members of a group share one: a hundred of them would bury the page.
      const key = task.group ? `${task.group.id} ${task.status}` : task.task_id;
      if (task.status === 'completed') {
        notification.success({ key, title, description: task.task_id, placement: 'bottomRight' });
      } else if (task.status === 'failed') {
        const description = task.failure ? pick(task.failure) : task.task_id;
        notification.error({ key, title, description, placement: 'bottomRight', duration: 10 });
      }
    };
    return listen((event) => {
      if (event.type !== 'task') return;
      const { task } = event;
      const before = states.get(task.task_id);
      states.set(task.task_id, task.status);
      // What ended while the page was away is history, not news.
      const old = isFinal(task.status) && task.completed_at && Date.now() - Date.parse(task.completed_at) > 60_000;
      if (before !== task.status && !old) tell(task);
    });
  }, [listen, notification, pick, t]);

  return (
    <div className="visually-hidden" aria-live="polite" data-testid="announcer">
      {spoken}
    </div>
  );
}
