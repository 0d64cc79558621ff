import type { Language } from '../i18n';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `11509170995` → `10.7 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 1023.96 KiB would be shown as 1024.0 KiB.
  while (unit < UNITS.length - 1 && value >= (unit === 0 ? 1024 : 1023.95)) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

const WORDS = {
  'zh-CN': { day: ' 天', hour: ' 小时', minute: ' 分', second: ' 秒' },
  en: { day: ' d', hour: ' h', minute: ' min', second: ' s' },
};

/** The two largest units: `1 h 5 min`, `1 小时 5 分`. */
export function formatDuration(seconds: number, language: Language): string {
  const words = WORDS[language];
  const total = Math.max(0, Math.floor(seconds));
  const parts: [number, string][] = [
    [Math.floor(total / 86_400), words.day],
    [Math.floor(total / 3_600) % 24, words.hour],
    [Math.floor(total / 60) % 60, words.minute],
    [total % 60, words.second],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return `0${words.second}`;
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, word]) => `${count}${word}`)
    .join(' ');
}

/** A short time: `0.42 s`, `3.1 s`, then as any duration. */
export function formatStep(seconds: number, language: Language): string {
  if (seconds >= 60) return formatDuration(seconds, language);
  if (seconds > 0 && seconds < 0.001) return `< 0.001${WORDS[language].second}`;
  const digits = seconds >= 10 ? 0 : seconds >= 1 ? 1 : seconds >= 0.01 ? 2 : 3;
  return `${seconds.toFixed(digits)}${WORDS[language].second}`;
}

/** Seconds from one ISO time to another, or to now. */
export function secondsBetween(from: string, to: string | null, now: number): number {
  return ((to === null ? now : Date.parse(to)) - Date.parse(from)) / 1000;
}

/** The time of today, date and time of another day. */
export function formatTime(iso: string, language: Language, now = Date.now()): string {
  const date = new Date(iso);
  const today = new Date(now).toDateString() === date.toDateString();
  return new Intl.DateTimeFormat(language, {
    ...(today ? {} : { month: '2-digit', day: '2-digit' }),
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  }).format(date);
}

export function formatFullTime(iso: string, language: Language): string {
  return new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' }).format(
    new Date(iso),
  );
}

export function formatLoss(loss: number | null): string {
  if (loss === null) return '–';
  return loss !== 0 && Math.abs(loss) < 0.001 ? loss.toExponential(2) : loss.toFixed(4);
}

/** `0.00005` → `5e-5`. */
export function formatRate(rate: number): string {
  if (rate === 0) return '0';
  const [digits, exponent] = rate.toExponential(2).split('e');
  return `${Number(digits)}e${Number(exponent)}`;
}

export function formatCount(count: number, language: Language): string {
  return new Intl.NumberFormat(language).format(count);
}

/** The last part of a path or hub id. */
export function lastSegment(path: string): string {
  return (
    path
      .replace(/[\\/]+$/, '')
      .split(/[\\/]/)
      .at(-1) || path
  );
}
