import { Drawer } from 'antd';
import { Suspense, useEffect } from 'react';
import { useTranslation } from 'react-i18next';
import { Outlet, useLocation, useMatch, useNavigate } from 'react-router';
import { isSignedOut, useMe, useTaskList } from '../api/queries';
import { DeviceBanner } from '../features/gpus/DeviceBanner';
import { useDraft } from '../features/new-task/DraftProvider';
import { NewTaskForm } from '../features/new-task/NewTaskForm';
import { TaskPanel } from '../features/queue/TaskPanel';
import { SignIn } from '../features/settings/SignIn';
import { useLayoutSize } from '../shared/useLayoutSize';
import { Damage } from './Damage';
import { Header } from './Header';
import { Notices } from './Notices';
import { Shortage } from './Shortage';

/** The one page. Drawers over it are routes of their own. */
export function Shell() {
  const { t } = useTranslation();
  const size = useLayoutSize();
  const navigate = useNavigate();
  const { search } = useLocation();
  const isNew = useMatch('/new') !== null;
  const { draft } = useDraft();
  const title = t(draft.kind === 'command' ? 'form.titleCommand' : 'form.title');
  const { error } = useMe();
  useTitle();

  if (isSignedOut(error)) {
    return (
      <>
        <Header />
        <SignIn />
      </>
    );
  }
  return (
    <>
      <a className="skip" href="#tasks-title">
        {t('nav.skip')}
      </a>
      <Header />
      <main className="page">
        <Damage />
        <Shortage />
        <DeviceBanner />
        <div className="columns">
          {size === 'wide' && (
            <section className="panel form-panel" aria-labelledby="form-title">
              <header className="panel-head">
                <h2 id="form-title">{title}</h2>
              </header>
              <NewTaskForm />
            </section>
          )}
          <TaskPanel />
        </div>
      </main>
      {size !== 'wide' && (
        <Drawer
          open={isNew}
          onClose={() => navigate({ pathname: '/', search })}
          title={title}
          placement="left"
          size={460}
          rootClassName="form-drawer"
          destroyOnHidden
        >
          <NewTaskForm />
        </Drawer>
      )}
      <Suspense>
        <Outlet />
      </Suspense>
      <Notices />
    </>
  );
}

/** How far the running task is, for whoever has the page in another tab. */
function useTitle() {
  const { data } = useTaskList(null);
  const running = data?.tasks.find(({ status }) => status === 'training');
  const percent = running ? Math.floor(running.progress.percent) : null;
  useEffect(() => {
    document.title = percent === null ? 'SAGE Studio' : `${percent}% · SAGE Studio`;
  }, [percent]);
}
