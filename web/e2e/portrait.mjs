// The pictures of the README: a studio with one simulated GPU and a day's work, in both languages.

import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Studio } from './studio.mjs';

const SAMPLES = new URL('../../crates/recipes/data/samples.jsonl', import.meta.url);

/** Short ones first: what is short has ended by the time of the picture. */
const TASKS = [
  { name: '发票助手', num_epochs: 12, learning_rate: 4e-3, seed: 1 },
  { name: 'support-faq v1', num_epochs: 8, learning_rate: 4e-3, seed: 2 },
  { name: 'support-faq v2', num_epochs: 400, learning_rate: 1e-3, seed: 3 },
  { name: '客服问答', num_epochs: 60, seed: 4 },
  { name: 'release notes', num_epochs: 60, seed: 5 },
];

export async function portrait(binary, browser, folder) {
  const studio = await Studio.inNewHome(binary, { SAGE_GPU_MOCK_COUNT: '1', SAGE_GPU_MOCK_MEMORY_GB: '12' });
  try {
    await mkdir(folder, { recursive: true });
    await studio.run('model', 'make-tiny', join(studio.home, 'models', 'tiny'));
    await studio.start();
    const post = async (path, body, headers) => {
      const response = await fetch(`${studio.url}/api/v1/${path}`, { method: 'POST', body, headers });
      assert.ok(response.ok, `${path}: ${await response.clone().text()}`);
      return response.json();
    };
    const form = new FormData();
    form.append('file', new Blob([await readFile(SAMPLES)]), 'support-faq.jsonl');
    const { path } = await post('datasets', form);
    const ids = [];
    for (const { name, ...recipe } of TASKS) {
      const fine_tune = {
        model_name: 'tiny',
        dataset_file: path,
        batch_size: 4,
        gradient_accumulation_steps: 1,
        ...recipe,
      };
      const body = JSON.stringify({ name, fine_tune: { learning_rate: 1e-3, load_in_8bit: false, ...fine_tune } });
      ids.push((await post('tasks', body, { 'content-type': 'application/json' })).task_id);
    }

    for (const [locale, name] of [
      ['zh-CN', 'page-zh-CN'],
      ['en-US', 'page-en'],
    ]) {
      const context = await browser.newContext({
        viewport: { width: 1440, height: 1020 },
        locale,
        colorScheme: 'light',
      });
      const page = await context.newPage();
      await page.goto(studio.url);
      const training = page.locator(`[data-task-id="${ids[2]}"][data-status=training]`);
      await training.waitFor({ timeout: 240_000 });
      await training
        .getByTestId('task-loss')
        .getByText(/\d\.\d/)
        .waitFor();
      await page.locator('#new-model').fill('tiny');
      await page.keyboard.press('Escape');
      await page.getByTestId('dataset-field').locator('label').nth(2).click();
      await page.locator('#new-dataset').fill(path);
      await page.keyboard.press('Escape');
      await page.getByTestId('dataset-preview').waitFor();
      await page.getByTestId('estimate-memory').waitFor();
      await page.evaluate(() => document.activeElement?.blur());
      await page.mouse.move(0, 0);
      // Notices of the tasks that have just ended.
      await page.locator('.ant-notification-notice').first().waitFor({ state: 'detached', timeout: 20_000 });
      await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled', fullPage: true });
      await context.close();
    }
  } finally {
    await studio.clear();
  }
}
