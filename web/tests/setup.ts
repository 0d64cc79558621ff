import { cleanup } from '@testing-library/react';
import { afterEach, vi } from 'vitest';
import { startI18n } from '../src/i18n';

// What antd asks of a browser and jsdom does not have.
window.matchMedia = (query: string) =>
  ({ matches: query.includes('min-width'), media: query, addEventListener() {}, removeEventListener() {} }) as never;
window.ResizeObserver = class {
  observe() {}
  unobserve() {}
  disconnect() {}
};
const { getComputedStyle } = window;
window.getComputedStyle = (element) => getComputedStyle(element);

startI18n('en');

afterEach(() => {
  cleanup();
  localStorage.clear();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});
