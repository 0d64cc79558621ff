import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { browserLanguage } from '../src/i18n';
import en from '../src/i18n/en.json';
import zh from '../src/i18n/zh-CN.json';

const keys = Object.keys(en) as (keyof typeof en)[];

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8'));
}

describe('texts', () => {
  it('exist in both languages, in the same order', () => {
    expect(Object.keys(zh)).toEqual(keys);
    for (const key of keys) {
      expect(en[key].trim(), key).not.toBe('');
      expect(zh[key].trim(), key).not.toBe('');
    }
  });

  it('name the same values', () => {
    const values = (text: string) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map(([, name]) => name).sort();
    for (const key of keys) expect(values(zh[key]), key).toEqual(values(en[key]));
  });

  it('are in their language', () => {
    for (const key of keys) expect(en[key], key).not.toMatch(/[\u4e00-\u9fff]/);
    const same = keys.filter((key) => en[key] === zh[key]);
    expect(same).toEqual(['field.lora_alpha', 'log.hits', 'settings.studio']);
  });

  it('are all used, and none that is used is missing', () => {
    const code = sources('src').join('\n');
    const used = new Set([...code.matchAll(/['"`]([a-z][A-Za-z]*\.\w+)['"`]/g)].map(([, key]) => key));
    // The one family that is put together: the names of the presets.
    expect(code).toContain('t(`preset.${name}`)');
    for (const name of ['safe', 'balanced', 'fast']) used.add(`preset.${name}`);
    expect(keys.filter((key) => !used.has(key))).toEqual([]);
    const called = [...code.matchAll(/\bt\(\s*'([^']+)'/g)].map(([, key]) => key);
    expect(called.length).toBeGreaterThan(100);
    expect(called.filter((key) => !(key in en))).toEqual([]);
  });
});

describe('the first language', () => {
  it('is the first of the browser that the page speaks', () => {
    expect(browserLanguage(['zh-TW', 'en'])).toBe('zh-CN');
    expect(browserLanguage(['fr-FR', 'en-GB', 'zh'])).toBe('en');
    expect(browserLanguage(['fr', 'zh'])).toBe('zh-CN');
    expect(browserLanguage(['fr'])).toBe('en');
    expect(browserLanguage([])).toBe('en');
  });
});
