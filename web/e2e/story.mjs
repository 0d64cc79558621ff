// The main job on the page, with the real studio and a real browser: upload a data set, create three tasks, see one train
// and two wait, cancel the second, see the third start, download the first one's adapter; with a reload and a restart of
// the studio in between; then a sweep while the queue is paused, and a command. Then, with eight simulated GPUs, what fits
// and what would; then a studio that asks for a sign-in. With --screenshots it then takes the pictures of the README.
//
//   SAGE_BIN=target/debug/sage node web/e2e/story.mjs [--screenshots DIR] [--stages DIR]

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { launch } from './browser.mjs';
import { portrait } from './portrait.mjs';
import { Studio } from './studio.mjs';

const BINARY = process.env.SAGE_BIN;
/** A training that is waited for, on a busy machine. */
const LONG = 240_000;
/** For everything. */
const WHOLE = 600_000;
/** For the pictures of the README. */
const screenshots = argument('--screenshots');
/** For pictures of the story's stages. */
const stages = argument('--stages');

function argument(name) {
  const at = process.argv.indexOf(name);
  return at < 0 ? null : process.argv[at + 1];
}

if (!BINARY) {
  console.error('Set SAGE_BIN to the sage binary: SAGE_BIN=target/debug/sage node web/e2e/story.mjs');
  process.exit(2);
}

const step = (text) => console.log(`- ${text}`);

/** What a person does and sees, in either language. */
class Page {
  constructor(page) {
    this.page = page;
    this.errors = [];
    /** While the studio is away the browser reports every refused connection. */
    this.away = false;
    page.on('pageerror', (error) => this.errors.push(String(error.stack ?? error)));
    page.on('console', (message) => {
      if (message.type() !== 'error') return;
      const refused = /net::ERR_|Failed to load resource/.test(message.text());
      if (!(this.away && refused)) this.errors.push(`${message.text()} (${message.location().url})`);
    });
  }

  get = (id) => this.page.getByTestId(id);
  row = (task) => this.page.locator(`[data-testid=task-row][data-task-id="${task}"]`);

  async sees(task, ...states) {
    const wanted = states.map((state) => `[data-task-id="${task}"][data-status="${state}"]`).join(', ');
    await this.page.locator(wanted).first().waitFor({ timeout: LONG });
  }

  /** Creates a task with what is in the form; answers its id and the state in which it was accepted. */
  async submit(name) {
    await this.page.locator('#new-name').fill(name);
    await this.get('submit-task').click();
    const result = this.page.locator('[data-testid=submit-result]');
    await result.waitFor();
    const task = await result.getAttribute('data-task-id');
    const status = await result.getAttribute('data-status');
    await result.getByRole('button').first().click();
    await result.waitFor({ state: 'detached' });
    // As long as it turns, a click counts as the second half of a double click.
    await this.page.locator('[data-testid=submit-task]:not(.ant-btn-loading)').waitFor();
    return { task, status };
  }

  async shoot(name) {
    if (!stages) return;
    await mkdir(stages, { recursive: true });
    await this.page.mouse.move(0, 0);
    await this.page.getByRole('tooltip').waitFor({ state: 'hidden' });
    await this.page.evaluate(() => window.scrollTo(0, 0));
    await this.page.screenshot({ path: join(stages, `${name}.png`), animations: 'disabled' });
  }
}

/** Alpaca rows, enough of them for a training of some seconds. */
function dataset() {
  const rows = Array.from({ length: 48 }, (_, index) => ({
    instruction: index % 2 ? `第 ${index} 号订单怎样开具发票？` : `How do I return order ${index}?`,
    output: index % 2 ? '在订单详情页点击“申请发票”。' : 'Open the order, choose Return, and print the label.',
  }));
  return `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`;
}

/** The names in a tar archive. */
function namesInTar(bytes) {
  const names = [];
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0; ) {
    const field = (from, to) =>
      bytes
        .subarray(at + from, at + to)
        .toString()
        .replace(/\0.*$/s, '');
    names.push(field(0, 100));
    at += 512 + 512 * Math.ceil(parseInt(field(124, 136), 8) / 512);
  }
  return names;
}

async function story(studio, browser) {
  const model = join(studio.home, 'tiny');
  await studio.run('model', 'make-tiny', model);
  const file = join(studio.home, 'support-faq.jsonl');
  const broken = join(studio.home, 'broken.jsonl');
  await writeFile(file, dataset());
  await writeFile(broken, `${dataset().split('\n')[0]}\n{"instruction": "no answer"}\n`);

  step('open the page in Chinese');
  const url = await studio.start();
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    locale: 'zh-CN',
    colorScheme: 'light',
    acceptDownloads: true,
  });
  const page = new Page(await context.newPage());
  page.page.setDefaultTimeout(30_000);
  await page.page.goto(url);
  await page.get('recommendation').waitFor();
  assert.equal(await page.get('recommendation').textContent(), 'CPU 模式（不推荐微调）');
  await page.get('no-gpu').waitFor();
  await page.page.getByRole('heading', { name: '新建微调任务' }).waitFor();
  assert.equal(await page.page.locator('html').getAttribute('lang'), 'zh-CN');

  step('a broken data set is refused with its line');
  const upload = page.page.locator('[data-testid=dataset-field] input[type=file]');
  page.away = true; // A refusal is an error to the browser's console too.
  await upload.setInputFiles(broken);
  const refusal = await page.get('dataset-error').textContent();
  assert.match(refusal, /2/);
  page.away = false;

  step('upload a data set');
  await upload.setInputFiles(file);
  await page.get('dataset-preview').waitFor();
  assert.match(await page.get('dataset-preview').textContent(), /support-faq.*48/s);
  await page.get('dataset-preview').locator('summary').click();
  await page.get('dataset-preview').getByText('How do I return order 0?').waitFor();
  await page.get('dataset-preview').locator('summary').click();

  step('create three tasks');
  await page.page.locator('#new-model').fill(model);
  await page.page.keyboard.press('Escape');
  await page.get('mode').getByText('高级').click();
  const fields = {
    num_epochs: 150,
    batch_size: 2,
    gradient_accumulation_steps: 2,
    learning_rate: 0.002,
    max_length: 128,
  };
  for (const [key, value] of Object.entries(fields)) await page.page.locator(`#field-${key}`).fill(String(value));
  await page.page.locator('#field-validation_split').fill('0.1');

  step('the estimate follows the form');
  await page
    .get('estimate-memory')
    .getByText(/\d [KMG]iB/)
    .waitFor();
  assert.match(await page.page.locator('.estimate .verdict').getAttribute('data-verdict'), /^(fits|does_not_fit)/);
  assert.match(await page.get('estimate-trainer').textContent(), /内置/);
  await page.get('estimate').locator('summary').click();
  await page.get('breakdown').getByText('模型权重').waitFor();
  await page.get('estimate').locator('summary').click();

  const first = await page.submit('客服问答 A');
  const second = await page.submit('客服问答 B');
  const third = await page.submit('客服问答 C');
  assert.deepEqual([second.status, third.status], ['queued', 'queued']);
  assert.notEqual(first.status, 'queued');

  step('one trains, two wait with their reasons');
  await page.sees(first.task, 'training');
  await page.sees(second.task, 'queued');
  await page.sees(third.task, 'queued');
  const reason = page.row(second.task).getByTestId('wait-reason');
  assert.match(await reason.textContent(), new RegExp(first.task));
  assert.match(await page.row(third.task).getByTestId('wait-reason').textContent(), /第 2 位/);
  await page.row(second.task).getByTestId('status-tag').hover();
  await page.page.getByRole('tooltip').getByText(first.task).waitFor();
  await page
    .row(first.task)
    .getByTestId('task-loss')
    .getByText(/\d\.\d/)
    .waitFor({ timeout: LONG });
  await page.shoot('zh-CN');

  step('the form is kept over a reload, the list is the same');
  await page.page.reload();
  await page.sees(second.task, 'queued');
  assert.equal(await page.page.locator('#new-model').inputValue(), model);
  assert.equal(await page.page.locator('#field-num_epochs').inputValue(), '150');

  step('cancel the second');
  await page.row(second.task).getByTestId('task-cancel').click();
  await page.get('confirm-ok').click();
  await page.sees(second.task, 'cancelled');

  step('the log and the curves of the first');
  await page.row(first.task).getByTestId('task-link').click();
  await page.get('task-drawer').waitFor();
  await page.page.getByRole('tab', { name: '日志' }).click();
  await page.page.locator('[data-testid=log-view] .log-line').first().waitFor();
  await page.page.reload();
  await page.page.locator('[data-testid=log-view] .log-line').first().waitFor();
  await page.page.getByRole('tab', { name: '曲线' }).click();
  await page.page.locator('[data-testid=chart] canvas').first().waitFor();
  await page.shoot('task');
  await page.page.keyboard.press('Escape');
  await page.get('task-drawer').waitFor({ state: 'detached' });

  step('the first completes, the third starts by itself');
  await page.sees(first.task, 'completed');
  await page.sees(third.task, 'training', 'completed');

  step('what was expected stands beside what was measured');
  await page.row(first.task).getByTestId('task-link').click();
  await page
    .get('task-memory')
    .locator('[data-row=peak]')
    .getByText(/\d [KMG]iB/)
    .waitFor();
  await page
    .get('task-memory')
    .locator('[data-row=expected]')
    .getByText(/\d [KMG]iB/)
    .waitFor();
  await page.shoot('memory');
  await page.page.keyboard.press('Escape');
  await page.get('task-drawer').waitFor({ state: 'detached' });

  step('restart the studio while the third trains');
  page.away = true;
  await studio.stop();
  await page.page.locator('[data-testid=connection-state][data-state=away]').waitFor();
  assert.equal(await page.get('connection-state').textContent(), '正在重新连接…');
  await studio.start();
  await page.page.locator('[data-testid=connection-state][data-state=open]').waitFor({ state: 'attached' });
  page.away = false;
  await page.sees(third.task, 'training', 'completed');

  step('switch to English');
  await page.get('language-switch').click();
  await page.page.getByRole('heading', { name: 'New fine-tune' }).waitFor();
  assert.equal(await page.page.locator('html').getAttribute('lang'), 'en');
  assert.equal(await page.get('recommendation').textContent(), 'CPU only (not recommended for fine-tuning)');
  await page.page.reload();
  await page.page.getByRole('heading', { name: 'New fine-tune' }).waitFor();
  await page.sees(third.task, 'training', 'completed');
  await page.shoot('en');

  step("download the first one's adapter");
  const [download] = await Promise.all([
    page.page.waitForEvent('download'),
    page.row(first.task).getByTestId('task-download').click(),
  ]);
  assert.equal(download.suggestedFilename(), `${first.task}_finetuned_model.tar.gz`);
  const names = namesInTar(gunzipSync(await readFile(await download.path())));
  for (const name of ['adapter_config.json', 'adapter_model.safetensors']) {
    assert.ok(
      names.some((entry) => entry.endsWith(name)),
      `${name} is not in the archive: ${names}`,
    );
  }

  step('the third completes, the second can be deleted');
  await page.sees(third.task, 'completed');
  const journal = await (await fetch(`${studio.url}/api/v1/tasks/${third.task}/journal`)).json();
  assert.equal(journal.filter(({ to }) => to === 'preparing').length, 1, 'the third was started once');
  await page.row(second.task).getByTestId('task-delete').click();
  await page.get('confirm-ok').click();
  await page.row(second.task).waitFor({ state: 'detached' });
  await page.sees(first.task, 'completed');

  step('a sweep, while the queue is paused: one row, and its members in it');
  await page.get('queue-pause').click();
  await page.page.locator('[data-testid=queue-mode][data-mode=paused]').waitFor();
  await page.page.locator('#new-name').fill('rates');
  await page.page.locator('#field-num_epochs').fill('8');
  await page.get('sweep-add').click();
  await page.get('sweep-field').click();
  await page.page.getByRole('option', { name: 'Learning rate' }).click();
  await page.get('sweep-values').locator('input').fill('0.002,0.001,');
  assert.equal(await page.get('sweep-size').textContent(), 'Makes 2 tasks');
  await page.get('submit-task').click();
  const sweep = await page.get('submit-result').getAttribute('data-group-id');
  const group = page.page.locator(`[data-testid=group-row][data-group-id="${sweep}"]`);
  await group.getByText('0/2 done').waitFor();
  assert.equal(await page.get('group-row').count(), 1);
  assert.equal(await page.row(sweep).count(), 0, 'a member has no row of its own');
  await group.getByTestId('group-toggle').click();
  const members = page.get('group-members');
  await members.getByText('learning_rate=0.002').waitFor();
  await members.locator('[data-testid=wait-reason][data-code=queue_paused]').nth(1).waitFor();
  await page.shoot('sweep');

  step('one of them goes first, the other is held until it is released');
  const [, last] = await members.getByTestId('task-row').evaluateAll((rows) => rows.map((row) => row.dataset.taskId));
  await page.row(last).getByTestId('task-menu').click();
  await page.page.getByRole('menuitem', { name: 'Run next' }).last().click();
  await page.row(last).getByTestId('wait-reason').getByText('position 1').waitFor();
  await page.row(sweep).getByTestId('task-menu').click();
  await page.page.getByRole('menuitem', { name: 'Hold' }).last().click();
  await page.sees(sweep, 'pending');
  await group.getByTestId('group-release').click();
  await page.sees(sweep, 'queued');

  step('resumed, all members complete');
  await page.get('queue-resume').click();
  await page.get('queue-mode').waitFor({ state: 'detached' });
  await group.getByText('2/2 done').waitFor({ timeout: LONG });
  await group.getByTestId('group-best').getByText('learning_rate=').waitFor();
  await page.sees(last, 'completed');
  await page.page.reload();
  await group.getByText('2/2 done').waitFor();

  step('a command');
  await page.get('kind').getByText('Command').click();
  await page.page.locator('#command-line').fill(`sh -c "echo 'two words' > said"`);
  await page.page.locator('#command-cwd').fill(studio.home);
  const command = await page.submit('says something');
  await page.sees(command.task, 'completed');
  assert.equal(await readFile(join(studio.home, 'said'), 'utf8'), 'two words\n');
  await page.get('kind').getByText('Fine-tune').click();

  step('dark, and on a telephone');
  await page.get('theme-switch').click();
  await page.page.getByRole('menuitem', { name: 'Dark' }).last().click();
  await page.page.locator('html[style*="dark"]').waitFor();
  await page.shoot('dark');
  await page.page.setViewportSize({ width: 390, height: 844 });
  await page.row(third.task).waitFor();
  const overflow = await page.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} pixels too wide`);
  await page.shoot('phone');

  step('the check-up answers with words');
  await page.get('open-settings').click();
  await page.get('doctor-run').click();
  await page.get('doctor').locator('li').first().waitFor();
  assert.match(await page.get('doctor').textContent(), /OK|Note|Problem/);

  assert.deepEqual(page.errors, [], 'the browser reported errors');
  await context.close();
}

/** A machine with eight GPUs: a line for each, and what fits them. */
async function manyGpus(browser) {
  step('eight simulated GPUs, a line each');
  const studio = await Studio.inNewHome(BINARY, { SAGE_GPU_MOCK_COUNT: '8', SAGE_GPU_MOCK_MEMORY_GB: '24' });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: 'en-US' });
  const page = new Page(await context.newPage());
  page.page.setDefaultTimeout(30_000);
  try {
    await page.page.goto(await studio.start());
    await page.get('simulated-label').waitFor();
    assert.equal(await page.get('device').count(), 8);
    await page
      .get('free-for-tasks')
      .first()
      .getByText(/of 24\.0 GiB free for tasks/)
      .waitFor();
    await page.get('device').first().locator('summary').click();
    await page.get('device').first().getByTestId('memory-legend').getByText('Free').waitFor();

    step('one of them in maintenance and back');
    const device = page.get('device').first();
    await device.getByTestId('maintenance-switch').click();
    await page.get('confirm-ok').click();
    await device.getByTestId('maintenance').getByText('guest').waitFor();
    await device.getByTestId('maintenance-switch').click();
    await device.getByTestId('maintenance').waitFor({ state: 'detached' });

    step('a configuration that fits, taken from the table');
    await page.get('open-fits').click();
    await page.get('fits-table').waitFor();
    await page.shoot('fits');
    await page.get('fits-use').first().click();
    await page.get('fits-drawer').waitFor({ state: 'detached' });
    assert.notEqual(await page.page.locator('#new-model').inputValue(), '');
    await page.page.locator('.estimate .verdict[data-verdict=fits_now]').waitFor();
    await page.shoot('estimate');

    step('one that does not fit, and one click to one that does');
    await page.page.locator('#field-max_length').fill('131072');
    await page.page.locator('.estimate .verdict[data-verdict=does_not_fit]').waitFor();
    await page.get('use-alternative').first().click();
    await page.page.locator('.estimate .verdict[data-verdict^=fits]').waitFor();
    assert.deepEqual(page.errors, [], 'the browser reported errors');
  } finally {
    await allOf(
      () => context.close(),
      () => studio.clear(),
    );
  }
}

/** A studio that asks who is there. */
async function people(browser) {
  step('a studio with authentication: sign in, make a user and a token');
  const studio = await Studio.inNewHome(BINARY);
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-US' });
  const page = new Page(await context.newPage());
  page.page.setDefaultTimeout(30_000);
  const signIn = async (password) => {
    await page.page.getByLabel('Name').fill('wang');
    await page.page.getByLabel('Password').fill(password);
    await page.page.getByRole('button', { name: 'Sign in' }).click();
    await page.page.locator('#tasks-title').waitFor();
  };
  try {
    const url = await studio.start();
    const owner = { name: 'wang', password: 'the first password', role: 'owner' };
    const made = await fetch(`${url}/api/v1/accounts`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(owner),
    });
    assert.equal(made.status, 201, await made.text());
    await studio.stop();
    await writeFile(join(studio.home, 'config.toml'), '[server]\nauthentication = true\n');
    await studio.start();
    page.away = true; // Without a session everything is refused.
    await page.page.goto(url);
    await page.get('sign-in').waitFor();
    await signIn('the first password');
    page.away = false;
    await page.page.goto(`${url}/settings?tab=users`);
    await page.get('user-new').click();
    await page.get('user-name').fill('li');
    await page.get('user-password').fill('another password');
    await page.get('user-save').click();
    await page.get('users').getByText('Member').waitFor();
    await page.shoot('users');
    await page.page.getByRole('tab', { name: 'Account' }).click();
    await page.get('token-new').click();
    await page.get('token-name').fill('ci');
    await page.get('token-create').click();
    const secret = await page.get('token-secret').textContent();
    const answer = await fetch(`${url}/api/v1/me`, { headers: { authorization: `Bearer ${secret}` } });
    assert.equal((await answer.json()).access, 'submit');
    await page.page.getByRole('tab', { name: 'Audit log' }).click();
    await page.get('audit').getByText('token.create').waitFor();

    step('a session that has ended asks for a sign-in by itself');
    page.away = true;
    const changed = await page.page.evaluate(async () => {
      const body = JSON.stringify({ current: 'the first password', new: 'the second password' });
      const headers = { 'content-type': 'application/json', 'x-sage': '1' };
      return (await fetch('/api/v1/me/password', { method: 'PUT', headers, body })).status;
    });
    assert.equal(changed, 204);
    // Whatever the page asks next is refused; it may have asked already.
    const users = page.page.getByRole('tab', { name: 'Users' });
    await users.click({ timeout: 3_000 }).catch(() => {});
    await page.get('sign-in').waitFor();
    await signIn('the second password');
    page.away = false;
    assert.deepEqual(page.errors, [], 'the browser reported errors');
  } finally {
    await allOf(
      () => context.close(),
      () => studio.clear(),
    );
  }
}

/** Does each, whatever the ones before it throw; throws the first error. */
async function allOf(...steps) {
  let failed = null;
  for (const step of steps) await step().catch((error) => (failed ??= { error }));
  if (failed) throw failed.error;
}

// Whatever hangs, nobody waits for it for ever.
setTimeout(() => {
  console.error(`the story did not end within ${WHOLE / 60_000} minutes`);
  process.exit(1);
}, WHOLE).unref();

const studio = await Studio.inNewHome(BINARY);
try {
  const browser = await launch();
  try {
    await story(studio, browser);
    await manyGpus(browser);
    await people(browser);
    console.log('the story holds');
    if (screenshots) await portrait(BINARY, browser, screenshots);
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
    // What the page looked like when it went wrong.
    const page = browser.contexts()[0]?.pages()[0];
    if (page && process.env.FAILURE_SHOT) await page.screenshot({ path: process.env.FAILURE_SHOT });
  } finally {
    await browser.close();
  }
} finally {
  await studio.clear();
}
