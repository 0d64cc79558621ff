import { defineConfig, mergeConfig } from 'vitest/config';
import vite from './vite.config.ts';

export default mergeConfig(
  vite,
  defineConfig({
    test: {
      environment: 'jsdom',
      include: ['tests/**/*.test.{ts,tsx,mjs}'],
      setupFiles: ['tests/setup.ts'],
      testTimeout: 20_000,
    },
  }),
);
