import { useMe } from '../api/queries';

/**
 * What the studio will let this person do, so that the page offers nothing else. While that is not known everything is
 * offered: the studio refuses what is not allowed.
 */
export function useMay() {
  const { data: me } = useMe();
  const all = me === undefined || (me.role === 'owner' && me.access === 'admin');
  const submit = me === undefined || me.access !== 'read';
  return {
    /** Everything: other people's tasks, the queue as a whole, accounts. */
    all,
    submit,
    /** What a task prints. */
    see: (owner: string) => me === undefined || me.role === 'owner' || me.name === owner,
    change: (owner: string) => all || (submit && me?.name === owner),
  };
}
