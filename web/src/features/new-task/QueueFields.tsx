import { Form, Input, InputNumber, Select, Switch } from 'antd';
import { useTranslation } from 'react-i18next';
import { useTaskList } from '../../api/queries';
import { taskTitle } from '../queue/cells';
import { PRIORITIES, type Priority } from '../queue/priority';
import { isFinal } from '../queue/status';
import { useDraft } from './DraftProvider';

/** When the task may start: its class, what it waits for, and how often it is tried again. */
export function QueueFields() {
  const { t } = useTranslation();
  const { draft, change } = useDraft();
  const { data } = useTaskList(null);
  const alive = (data?.tasks ?? []).filter(({ status }) => !isFinal(status));
  return (
    <>
      <Form.Item label={t('field.priority')} htmlFor="field-priority">
        <Select<Priority>
          id="field-priority"
          value={draft.priority}
          onChange={(priority) => change({ priority })}
          options={(Object.keys(PRIORITIES) as Priority[]).map((key) => ({
            value: key,
            label: t(PRIORITIES[key].text),
          }))}
        />
      </Form.Item>
      <Form.Item label={t('field.after')} htmlFor="field-after">
        <Select<string[]>
          id="field-after"
          mode="multiple"
          allowClear
          value={draft.after}
          onChange={(after) => change({ after })}
          placeholder={t('field.afterNone')}
          options={alive.map((task) => ({ value: task.task_id, label: `${taskTitle(task)} · ${task.task_id}` }))}
        />
      </Form.Item>
      {draft.after.length > 0 && (
        <label className="switch-line" htmlFor="field-afterAny">
          <Switch
            id="field-afterAny"
            size="small"
            checked={draft.afterAny}
            onChange={(afterAny) => change({ afterAny })}
          />
          {t('field.afterAny')}
        </label>
      )}
      <Form.Item label={t('field.startAfter')} htmlFor="field-startAfter" className="whole-line">
        <Input
          id="field-startAfter"
          type="datetime-local"
          value={draft.startAfter}
          onChange={(event) => change({ startAfter: event.target.value })}
        />
      </Form.Item>
      <Form.Item
        label={t('field.deadline')}
        htmlFor="field-deadline"
        className="whole-line"
        tooltip={t('field.deadlineHint')}
      >
        <Input
          id="field-deadline"
          type="datetime-local"
          value={draft.deadline}
          onChange={(event) => change({ deadline: event.target.value })}
        />
      </Form.Item>
      <Form.Item label={t('field.retries')} htmlFor="field-retries" tooltip={t('field.retriesHint')}>
        <InputNumber
          id="field-retries"
          className="full"
          value={draft.retries}
          min={0}
          max={100}
          precision={0}
          placeholder={t('field.automatic')}
          onChange={(retries) => change({ retries })}
        />
      </Form.Item>
    </>
  );
}
