// The picture of the README that shows the GPUs: four of them, one split, one half taken by another program, with
// trainings beside it and a queue. Runs on make-believe GPUs:
//
//   SAGE_BIN=target/debug/sage cargo xtask fake 4xH100 --mig 2 --external 61GB -- node web/e2e/gpus.mjs docs/images

import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './browser.mjs';
import { Studio } from './studio.mjs';

const [folder] = process.argv.slice(2);
const MACHINE = process.env.FAKEGPU_DIR;
assert.ok(folder && MACHINE, 'usage: cargo xtask fake 4xH100 --mig 2 --external 61GB -- node web/e2e/gpus.mjs FOLDER');
const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const HOLD = path('../../target/debug/fakegpu-hold');
const GB = 1e9;

/** Name, program, what it may hold, what it holds, steps, and at which it begins. */
const TASKS = [
  { name: '客服问答', program: 'qwen2.5-7b-lora', grant: 21, holds: 17.6, steps: 400, first: 212 },
  { name: 'contract review', program: 'qwen2.5-32b-qlora', grant: 38, holds: 31.5, steps: 900, first: 161 },
  { name: 'release notes', program: 'llama-3.1-8b-lora', grant: 24, holds: 20.1, steps: 350, first: 318 },
  { name: '代码补全', program: 'qwen2.5-coder-14b-lora', grant: 44, holds: 37.9, steps: 600, first: 44 },
  { name: 'intent classifier', program: 'qwen2.5-0.5b-full', grant: 8.5, holds: 6.9, steps: 500, first: 377 },
  { name: 'medical notes', program: 'qwen2.5-32b-lora', grant: 74, holds: 70, steps: 900, first: 0 },
];

/** The driver's figures follow the work. */
async function warm() {
  const file = join(MACHINE, 'state.json');
  const state = JSON.parse(await readFile(file, 'utf8'));
  state.gpus.forEach((gpu, index) => {
    const work = {
      utilisation: 98 - 5 * index,
      temperature: 66 - 2 * index,
      power_milliwatts: 612_000 - 41_000 * index,
    };
    Object.assign(gpu, work, { clocks: { ...gpu.clocks, sm: 1755 } });
  });
  await writeFile(file, JSON.stringify(state));
}

const studio = await Studio.inNewHome(process.env.SAGE_BIN ?? 'sage', { SAGE_DISABLE_NVML: '0' });
const browser = await launch();
try {
  await mkdir(folder, { recursive: true });
  await warm();
  await studio.start();
  const submit = async ({ name, program, grant, holds, steps, first }) => {
    const link = join(studio.home, program);
    await symlink(path('stand-in.mjs'), link);
    const argv = [link, HOLD, String(holds * GB), String(steps), String(first)];
    const command = { argv, cwd: studio.home, memory_bytes: grant * GB };
    const response = await fetch(`${studio.url}/api/v1/tasks`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name, command }),
    });
    assert.ok(response.ok, await response.clone().text());
    return response.json();
  };
  for (const task of TASKS) await submit(task);

  for (const [locale, name] of [
    ['zh-CN', 'gpus-zh-CN'],
    ['en-US', 'gpus-en'],
  ]) {
    const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, locale, colorScheme: 'light' });
    const page = await context.newPage();
    await page.goto(studio.url);
    await page.locator('[data-status=queued]').first().waitFor();
    await page.locator('.segment-task').nth(4).waitFor({ state: 'attached', timeout: 60_000 });
    await page.locator('#new-model').fill('Qwen/Qwen2.5-7B-Instruct');
    await page.keyboard.press('Escape');
    await page.getByTestId('estimate-memory').waitFor();
    await page.evaluate(() => document.activeElement?.blur());
    await page.mouse.move(0, 0);
    // Until the bars stand still.
    await page.waitForTimeout(3_000);
    await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled', fullPage: true });
    await context.close();
  }
} finally {
  await browser.close().finally(() => studio.clear());
}
