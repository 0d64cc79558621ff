import { Alert } from 'antd';
import { useStudio } from '../api/queries';
import { useBilingual } from '../shared/preferences';

/** Says what the machine is short of, also while nothing waits for it. */
export function Shortage() {
  const pick = useBilingual();
  const { data } = useStudio();
  return data?.short_of?.map((short) => (
    <Alert key={short.code} type="warning" showIcon banner title={pick(short)} data-testid="shortage" />
  ));
}
