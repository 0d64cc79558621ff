import { Form, Input, InputNumber, Switch } from 'antd';
import { useTranslation } from 'react-i18next';
import { useDevices } from '../../api/queries';
import { splitLine } from './commandLine';
import { useDraft } from './DraftProvider';

/** Any program as a task: what to run, where, and what it needs of the GPUs. */
export function CommandFields({ checked }: { checked: boolean }) {
  const { t } = useTranslation();
  const { draft, change } = useDraft();
  const { data } = useDevices();
  const gpuCount = data?.devices.filter(({ kind }) => kind !== 'cpu').length ?? 0;
  const problem = lineProblem(draft.line);
  // A quote is open for as long as one types in it.
  const lineError = checked && problem ? t(problem) : undefined;
  const cwdError = checked && !isAbsolute(draft.cwd) ? t('command.cwdMissing') : undefined;
  return (
    <>
      <Form.Item
        label={t('command.line')}
        htmlFor="command-line"
        validateStatus={lineError && 'error'}
        help={lineError}
        extra={t('command.lineHint')}
      >
        <Input.TextArea
          id="command-line"
          className="mono"
          rows={3}
          value={draft.line}
          onChange={(event) => change({ line: event.target.value })}
          placeholder='python3 train.py --name "run 1"'
          spellCheck={false}
        />
      </Form.Item>
      <Form.Item label={t('command.cwd')} htmlFor="command-cwd" validateStatus={cwdError && 'error'} help={cwdError}>
        <Input
          id="command-cwd"
          className="mono"
          value={draft.cwd}
          onChange={(event) => change({ cwd: event.target.value })}
          placeholder="/home/…"
          spellCheck={false}
        />
      </Form.Item>
      <div className="form-pair">
        <Form.Item label={t('field.gpus')} htmlFor="command-gpus">
          <InputNumber
            id="command-gpus"
            className="full"
            value={draft.gpus}
            min={1}
            max={Math.max(1, gpuCount)}
            placeholder="1"
            onChange={(gpus) => change({ gpus })}
          />
        </Form.Item>
        <Form.Item label={t('command.memory')} htmlFor="command-memory">
          <InputNumber
            id="command-memory"
            className="full"
            value={draft.memoryGib}
            min={0.1}
            step={1}
            placeholder={t('command.memoryUnknown')}
            onChange={(memoryGib) => change({ memoryGib })}
          />
        </Form.Item>
      </div>
      <label className="switch-line" htmlFor="command-share">
        <Switch
          id="command-share"
          size="small"
          disabled={draft.memoryGib === null}
          checked={draft.share && draft.memoryGib !== null}
          onChange={(share) => change({ share })}
        />
        {t('command.share')}
      </label>
    </>
  );
}

export const isAbsolute = (path: string) => /^(\/|[A-Za-z]:[\\/])/.test(path.trim());

/** What is wrong with the line, if anything. */
export function lineProblem(line: string) {
  const words = splitLine(line);
  if (words === null) return 'command.quoteOpen';
  return words.length === 0 ? 'command.lineMissing' : null;
}
