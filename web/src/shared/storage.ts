import { useCallback, useState } from 'react';

/** Storage may be full, switched off, or filled by an older page: then the page works without it. */
export function readStored<T>(key: string, fallback: T, isValid: (value: unknown) => value is T): T {
  try {
    const text = localStorage.getItem(`sage.${key}`);
    const value: unknown = text === null ? null : JSON.parse(text);
    return isValid(value) ? value : fallback;
  } catch {
    return fallback;
  }
}

export function store(key: string, value: unknown): void {
  try {
    localStorage.setItem(`sage.${key}`, JSON.stringify(value));
  } catch {
    // Kept for this visit only.
  }
}

/** State that survives a reload. */
export function useStored<T>(key: string, fallback: T, isValid: (value: unknown) => value is T) {
  const [value, setValue] = useState(() => readStored(key, fallback, isValid));
  const set = useCallback(
    (next: T | ((now: T) => T)) => {
      setValue((now) => {
        const chosen = typeof next === 'function' ? (next as (now: T) => T)(now) : next;
        store(key, chosen);
        return chosen;
      });
    },
    [key],
  );
  return [value, set] as const;
}
