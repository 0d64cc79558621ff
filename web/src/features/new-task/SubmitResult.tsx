import { Alert } from 'antd';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import type { CreatedGroup, CreatedTask, FineTunePatch } from '../../api/types';
import { useBilingual } from '../../shared/preferences';
import { Alternatives } from '../estimate/Alternatives';
import { groupTitle } from '../queue/cells';

/** Each member may warn of the same in figures of its own. */
const SHOWN_WARNINGS = 3;

interface SubmitResultProps {
  task: CreatedTask;
  onClose: () => void;
  onUse: (patch: FineTunePatch) => void;
}

/** Started, or queued and at which place; and what the studio thinks of the recipe. */
export function SubmitResult({ task, onClose, onUse }: SubmitResultProps) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { search } = useLocation();
  const title = task.wait
    ? t('form.queued', { position: task.wait.position })
    : task.status === 'pending'
      ? t('form.held')
      : t('form.started');
  return (
    <div className="submit-result" data-testid="submit-result" data-status={task.status} data-task-id={task.task_id}>
      <Alert
        type={task.wait ? 'info' : 'success'}
        showIcon
        closable={{ onClose, 'aria-label': t('action.close') }}
        title={title}
        description={
          <>
            {task.wait && <div>{pick(task.wait)}</div>}
            <Link to={{ pathname: `/tasks/${task.task_id}`, search }}>{task.task_id}</Link>
          </>
        }
      />
      {task.warnings.map((warning) => (
        <Alert key={warning.code} type="warning" showIcon title={pick(warning)} data-testid="submit-warning" />
      ))}
      <Alternatives alternatives={task.alternatives ?? []} action={t('estimate.useInstead')} onUse={onUse} />
    </div>
  );
}

interface GroupResultProps {
  created: CreatedGroup;
  onClose: () => void;
}

/** How many tasks it became, and how many of them wait. */
export function GroupResult({ created, onClose }: GroupResultProps) {
  const { t } = useTranslation();
  const pick = useBilingual();
  const { tasks, warnings } = created;
  const waiting = tasks.filter(({ wait }) => wait !== null).length;
  const all = [...warnings, ...tasks.flatMap((task) => task.warnings)];
  const distinct = [...new Map(all.map((warning) => [pick(warning), warning])).values()];
  return (
    <div className="submit-result" data-testid="submit-result" data-group-id={created.group}>
      <Alert
        type="success"
        showIcon
        closable={{ onClose, 'aria-label': t('action.close') }}
        title={t('form.groupSubmitted', { name: groupTitle(tasks[0]), count: tasks.length })}
        description={waiting > 0 ? t('form.groupWaits', { count: waiting }) : undefined}
      />
      {distinct.slice(0, SHOWN_WARNINGS).map((warning) => (
        <Alert key={pick(warning)} type="warning" showIcon title={pick(warning)} data-testid="submit-warning" />
      ))}
    </div>
  );
}
