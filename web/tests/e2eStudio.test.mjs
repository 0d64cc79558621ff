// The browser test's own studio: whatever becomes of it, the test goes on.

import { access, chmod, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Studio } from '../e2e/studio.mjs';

async function standIn(script) {
  const path = join(await mkdtemp(join(tmpdir(), 'sage-stand-in-')), 'sage');
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  return Studio.inNewHome(path);
}

it('clears up after a studio that was killed', async () => {
  const studio = await standIn('echo "SAGE Studio listening on http://127.0.0.1:9"; kill -9 $$');
  await studio.start();
  // It may have ended already, or be about to: both have an end. Nobody answers on that port.
  await studio.clear().catch((error) => expect(String(error)).toContain('fetch failed'));
  await expect(access(studio.home)).rejects.toThrow();
  await studio.stop();
});

it('says what a studio said that did not start', async () => {
  const studio = await standIn('echo "the port is taken" >&2; exit 3');
  await expect(studio.start()).rejects.toThrow('the port is taken');
  await studio.clear();
});
