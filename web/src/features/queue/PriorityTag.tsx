import { Tag } from 'antd';
import { useTranslation } from 'react-i18next';
import { isPriority, PRIORITIES } from './priority';

/** The class of a task that is not of the normal one. */
export function PriorityTag({ priority }: { priority: string }) {
  const { t } = useTranslation();
  if (priority === 'normal' || !isPriority(priority)) return null;
  const { text, color } = PRIORITIES[priority];
  return (
    <Tag color={color} data-testid="priority-tag">
      {t(text)}
    </Tag>
  );
}
