import { AutoComplete } from 'antd';
import { useTranslation } from 'react-i18next';
import { useModels } from '../../api/queries';
import type { ModelView } from '../../api/types';
import type { TextKey } from '../../i18n';
import { formatBytes, lastSegment } from '../../shared/format';

interface ModelFieldProps {
  id: string;
  value: string;
  onChange: (model: string) => void;
  invalid: boolean;
  describedBy?: string;
}

const GROUPS: { text: TextKey; holds: (model: ModelView) => boolean }[] = [
  { text: 'model.finetuned', holds: ({ type }) => type === 'finetuned' },
  { text: 'model.local', holds: ({ type, source }) => type !== 'finetuned' && source === 'local' },
  { text: 'model.hub', holds: ({ type, source }) => type !== 'finetuned' && source !== 'local' },
];

/** A model of the list, a folder on the studio's machine, or any hub id. */
export function ModelField({ id, value, onChange, invalid, describedBy }: ModelFieldProps) {
  const { t } = useTranslation();
  const { data = [] } = useModels();
  const options = GROUPS.map(({ text, holds }) => ({
    label: t(text),
    options: data.filter(holds).map((model) => ({ value: model.name, label: model.name, model })),
  })).filter((group) => group.options.length > 0);

  return (
    <AutoComplete
      id={id}
      value={value}
      onChange={(next) => onChange(next ?? '')}
      options={options}
      optionRender={({ data: option }) => <ModelOption model={(option as unknown as { model: ModelView }).model} />}
      // With a full name in the field the list would otherwise show nothing but that name.
      showSearch={{
        filterOption: (typed, option) =>
          data.some(({ name }) => name === typed) ||
          String((option as { value?: string } | undefined)?.value ?? '')
            .toLowerCase()
            .includes(typed.toLowerCase()),
      }}
      allowClear
      placeholder={t('model.placeholder')}
      status={invalid ? 'error' : undefined}
      aria-invalid={invalid}
      aria-describedby={describedBy}
      data-testid="model-field"
    />
  );
}

function ModelOption({ model }: { model: ModelView }) {
  const title = model.source === 'local' ? lastSegment(model.name) : model.name;
  return (
    <div className="option" title={model.name}>
      <span className="cell-main">{title}</span>
      <span className="cell-under">
        {[model.description, model.bytes !== null && formatBytes(model.bytes)].filter(Boolean).join(' · ')}
      </span>
    </div>
  );
}
