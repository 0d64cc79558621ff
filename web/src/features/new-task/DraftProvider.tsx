import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from 'react';
import { readStored, store } from '../../shared/storage';
import { type Draft, emptyDraft, isDraft } from './draft';

interface DraftState {
  draft: Draft;
  change: (part: Partial<Draft>) => void;
}

const DraftContext = createContext<DraftState | null>(null);

/** A long pasted text is not worth the browser's storage. */
const PASTED_LIMIT = 200_000;

export function DraftProvider({ children }: { children: ReactNode }) {
  const [draft, setDraft] = useState(() => readStored('draft', emptyDraft, isDraft));
  const change = useCallback((part: Partial<Draft>) => {
    setDraft((now) => {
      const next = { ...now, ...part };
      store('draft', next.pasted.length > PASTED_LIMIT ? { ...next, pasted: '' } : next);
      return next;
    });
  }, []);
  const value = useMemo(() => ({ draft, change }), [draft, change]);
  return <DraftContext value={value}>{children}</DraftContext>;
}

export function useDraft(): DraftState {
  const state = useContext(DraftContext);
  if (!state) throw new Error('useDraft needs a DraftProvider');
  return state;
}
