import i18next from 'i18next';
import { createContext, type ReactNode, useContext, useEffect, useMemo, useSyncExternalStore } from 'react';
import type { Bilingual } from '../api/types';
import { browserLanguage, isLanguage, type Language } from '../i18n';
import { useStored } from './storage';

export type ThemeChoice = 'system' | 'light' | 'dark';

interface Preferences {
  language: Language;
  setLanguage: (language: Language) => void;
  themeChoice: ThemeChoice;
  setThemeChoice: (choice: ThemeChoice) => void;
  dark: boolean;
}

const PreferencesContext = createContext<Preferences | null>(null);

const isThemeChoice = (value: unknown): value is ThemeChoice =>
  value === 'system' || value === 'light' || value === 'dark';

export function PreferencesProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useStored<Language>('language', browserLanguage(), isLanguage);
  const [themeChoice, setThemeChoice] = useStored<ThemeChoice>('theme', 'system', isThemeChoice);
  const systemDark = useMedia('(prefers-color-scheme: dark)');
  const dark = themeChoice === 'system' ? systemDark : themeChoice === 'dark';

  useEffect(() => {
    document.documentElement.lang = language;
    void i18next.changeLanguage(language);
  }, [language]);
  useEffect(() => {
    document.documentElement.style.colorScheme = dark ? 'dark' : 'light';
  }, [dark]);

  const value = useMemo(
    () => ({ language, setLanguage, themeChoice, setThemeChoice, dark }),
    [language, setLanguage, themeChoice, setThemeChoice, dark],
  );
  return <PreferencesContext value={value}>{children}</PreferencesContext>;
}

export function usePreferences(): Preferences {
  const preferences = useContext(PreferencesContext);
  if (!preferences) throw new Error('usePreferences needs a PreferencesProvider');
  return preferences;
}

/** Picks the text of the chosen language. */
export function useBilingual(): (text: Bilingual) => string {
  const { language } = usePreferences();
  return (text) => (language === 'zh-CN' ? text.zh : text.en);
}

export function useMedia(query: string): boolean {
  const list = useMemo(() => window.matchMedia(query), [query]);
  return useSyncExternalStore(
    (onChange) => {
      list.addEventListener('change', onChange);
      return () => list.removeEventListener('change', onChange);
    },
    () => list.matches,
  );
}
