import { CopyOutlined, ForkOutlined } from '@ant-design/icons';
import { App, Button } from 'antd';
import { useTranslation } from 'react-i18next';
import { useNavigate, useSearchParams } from 'react-router';
import type { TaskView } from '../../api/types';
import { copyText } from '../../shared/copyText';
import { useLayoutSize } from '../../shared/useLayoutSize';
import { useDraft } from '../new-task/DraftProvider';
import { draftOf } from '../new-task/draft';

/** The recipe in full; the way to do it again. */
export function ConfigTab({ task }: { task: TaskView }) {
  const { t } = useTranslation();
  const { message } = App.useApp();
  const { change } = useDraft();
  const navigate = useNavigate();
  const [search] = useSearchParams();
  const size = useLayoutSize();
  const text = JSON.stringify(task.config, null, 2);

  const copy = async () => {
    if (await copyText(text)) void message.success(t('task.copied'));
    else void message.error(t('task.notCopied'));
  };
  const clone = () => {
    change(draftOf(task));
    search.delete('tab');
    navigate({ pathname: size === 'wide' ? '/' : '/new', search: search.toString() });
    void message.info(t('task.cloned'));
  };

  return (
    <div className="config">
      <div className="config-tools">
        <Button icon={<CopyOutlined />} onClick={copy} data-testid="config-copy">
          {t('task.copy')}
        </Button>
        {task.trainer !== 'command' && (
          <Button icon={<ForkOutlined />} onClick={clone} data-testid="config-clone">
            {t('task.clone')}
          </Button>
        )}
      </div>
      <pre className="mono config-text" data-testid="config-text">
        {text}
      </pre>
    </div>
  );
}
