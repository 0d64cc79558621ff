import { DeleteOutlined, PlusOutlined } from '@ant-design/icons';
import { Button, Form, Input, Select } from 'antd';
import { useTranslation } from 'react-i18next';
import { formatCount } from '../../shared/format';
import { IconButton } from '../../shared/IconButton';
import { usePreferences } from '../../shared/preferences';
import { useDraft } from './DraftProvider';
import { LARGEST_SWEEP, PARAMETERS, type SweepLine, sweepSize, wrongValues } from './sweep';

/** Parameters that differ from task to task: a task for each combination of their values. */
export function SweepFields() {
  const { t } = useTranslation();
  const { language } = usePreferences();
  const { draft, change } = useDraft();
  const { sweep } = draft;
  const size = sweepSize(sweep);
  const replace = (at: number, line: Partial<SweepLine>) =>
    change({ sweep: sweep.with(at, { ...sweep[at], ...line }) });
  const isCommand = draft.kind === 'command';

  return (
    <fieldset className="sweep" data-testid="sweep">
      <legend>{t('sweep.title')}</legend>
      {sweep.length === 0 && (
        <span className="cell-under sweep-hint">{t(isCommand ? 'sweep.hintCommand' : 'sweep.hint')}</span>
      )}
      {sweep.map((line, at) => {
        const wrong = isCommand ? [] : wrongValues(line);
        const taken = new Set(sweep.filter((other) => other !== line).map(({ field }) => field));
        return (
          // biome-ignore lint/suspicious/noArrayIndexKey: lines have no other name, and none keeps a state of its own
          <div className="sweep-line" key={at}>
            {isCommand ? (
              <Input
                value={line.field}
                onChange={(event) => replace(at, { field: event.target.value })}
                placeholder={t('sweep.name')}
                aria-label={t('sweep.parameter')}
              />
            ) : (
              <Select
                value={line.field || undefined}
                onChange={(field) => replace(at, { field })}
                placeholder={t('sweep.parameter')}
                aria-label={t('sweep.parameter')}
                popupMatchSelectWidth={false}
                data-testid="sweep-field"
                options={Object.entries(PARAMETERS)
                  .filter(([key]) => !taken.has(key))
                  .map(([key, { text }]) => ({ value: key, label: t(text) }))}
              />
            )}
            <Form.Item
              noStyle={wrong.length === 0}
              validateStatus={wrong.length > 0 ? 'error' : undefined}
              help={t('sweep.noNumber', { values: wrong.join(', ') })}
            >
              <Select<string[]>
                mode="tags"
                className="full"
                value={line.values}
                onChange={(values) => replace(at, { values })}
                tokenSeparators={[',', '，', ' ']}
                open={false}
                suffixIcon={null}
                status={wrong.length > 0 ? 'error' : undefined}
                placeholder={t('sweep.values')}
                aria-label={t('sweep.values')}
                data-testid="sweep-values"
              />
            </Form.Item>
            <IconButton
              title={t('sweep.remove')}
              icon={<DeleteOutlined />}
              onClick={() => change({ sweep: sweep.toSpliced(at, 1) })}
            />
          </div>
        );
      })}
      <div className="sweep-end">
        <Button
          size="small"
          icon={<PlusOutlined />}
          onClick={() => change({ sweep: [...sweep, { field: '', values: [] }] })}
          data-testid="sweep-add"
        >
          {t('sweep.add')}
        </Button>
        {size > 0 && (
          <span role="status" className={size > LARGEST_SWEEP ? 'sweep-too-many' : undefined} data-testid="sweep-size">
            {t(size > LARGEST_SWEEP ? 'sweep.tooMany' : 'sweep.size', {
              count: formatCount(size, language),
              most: formatCount(LARGEST_SWEEP, language),
            })}
          </span>
        )}
      </div>
    </fieldset>
  );
}
