import { useMedia } from './preferences';

export type LayoutSize = 'narrow' | 'medium' | 'wide';

/** `wide` has room for the form beside the table, `narrow` none for a table. The same widths stand in app.css. */
export function useLayoutSize(): LayoutSize {
  const wide = useMedia('(min-width: 1240px)');
  const medium = useMedia('(min-width: 800px)');
  return wide ? 'wide' : medium ? 'medium' : 'narrow';
}
