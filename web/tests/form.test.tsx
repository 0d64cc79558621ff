import { QueryClientProvider } from '@tanstack/react-query';
import { render, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { App } from 'antd';
import { MemoryRouter } from 'react-router';
import { beforeEach, describe, expect, it } from 'vitest';
import { makeQueryClient } from '../src/api/queries';
import { DraftProvider } from '../src/features/new-task/DraftProvider';
import { draftOf, emptyDraft, groupOf, isDraft, requestOf } from '../src/features/new-task/draft';
import { NewTaskForm } from '../src/features/new-task/NewTaskForm';
import { PreferencesProvider } from '../src/shared/preferences';
import { readStored, store } from '../src/shared/storage';
import { fakeStudio } from './fakeStudio';
import { answer, me, member, task, wait } from './samples';

const preset = {
  ...{ name: 'balanced', title_zh: '均衡', title_en: 'Balanced', num_epochs: 3, batch_size: 1 },
  ...{ gradient_accumulation_steps: 16, learning_rate: 5e-5, max_length: 1024, lora_rank: 8, lora_alpha: 16 },
};
const dataset = {
  ...{ path: '/uploads/faq.jsonl', filename: 'faq.jsonl', bytes: 2048, format: 'alpaca', examples: 12 },
  ...{ uploaded_at: '2026-01-01T00:00:00Z', preview: [{ prompt: 'Where?', answer: 'Here.' }] },
};

let studio: ReturnType<typeof fakeStudio>;

beforeEach(() => {
  store('language', 'en');
  studio = fakeStudio({
    'GET /api/v1/studio': { default_time_limit_seconds: 21600, upload_limit_bytes: 1e9, queue_warning: 5 },
    'GET /api/v1/me': me,
    'GET /api/v1/tasks': { tasks: [], next_before: null, counts: {}, last_event_id: 0 },
    'GET /api/v1/models': [],
    'GET /api/v1/presets': [preset],
    'GET /api/v1/datasets': [dataset],
    'GET /api/v1/devices': { devices: [] },
    'POST /api/v1/estimate': answer(),
    'POST /api/v1/tasks': { status: 201, body: task(7, 'preparing') },
  });
});

function showForm() {
  return render(
    <QueryClientProvider client={makeQueryClient()}>
      <PreferencesProvider>
        <App>
          <MemoryRouter>
            <DraftProvider>
              <NewTaskForm />
            </DraftProvider>
          </MemoryRouter>
        </App>
      </PreferencesProvider>
    </QueryClientProvider>,
  );
}

const filled = { ...emptyDraft, model: '/models/tiny', source: 'choose' as const, dataset: dataset.path };
const submitButton = () => screen.getByTestId('submit-task');

describe('the create form', () => {
  it('says in place what is missing and asks the studio nothing', async () => {
    showForm();
    await userEvent.click(submitButton());
    expect(await screen.findByText(/Choose a model, or type/)).toBeTruthy();
    expect(screen.getByText(/Upload, paste or choose a data set/)).toBeTruthy();
    expect(studio.posted('/api/v1/tasks')).toEqual([]);
  });

  it('submits what was typed, says that it started, and shows the warnings', async () => {
    store('draft', { ...filled, model: '' });
    const warnings = [{ code: 'oom', zh: '显存可能不足', en: 'Memory may be short' }];
    studio.set('POST /api/v1/tasks', { status: 201, body: task(7, 'preparing', { warnings }) });
    showForm();
    await userEvent.type(screen.getByLabelText('Model'), '/models/tiny');
    await userEvent.type(screen.getByLabelText('Time limit'), '2');
    await userEvent.click(submitButton());

    const result = await screen.findByTestId('submit-result');
    expect(within(result).getByText('The task has started')).toBeTruthy();
    expect(within(result).getByText('Memory may be short')).toBeTruthy();
    expect(studio.posted('/api/v1/tasks')[0].body).toEqual({
      fine_tune: { model_name: '/models/tiny', dataset_file: '/uploads/faq.jsonl', preset: 'balanced' },
      time_limit_seconds: 7200,
    });
  });

  it('says at which place a queued task waits, and for what', async () => {
    store('draft', filled);
    studio.set('POST /api/v1/tasks', { status: 201, body: task(7, 'queued', { wait: wait(3) }) });
    showForm();
    await userEvent.click(submitButton());
    expect(await screen.findByText('Queued, position 3')).toBeTruthy();
    expect(screen.getByText(/waiting for the device that finetune_1700000000_1 holds/)).toBeTruthy();
  });

  it('creates one task from a double click, however fast the studio answers', async () => {
    store('draft', filled);
    showForm();
    await userEvent.dblClick(submitButton());
    await screen.findByTestId('submit-result');
    expect(studio.posted('/api/v1/tasks')).toHaveLength(1);

    await waitFor(() => expect(submitButton().className).not.toContain('loading'), { timeout: 5_000 });
    expect(studio.posted('/api/v1/tasks')).toHaveLength(1);
    await userEvent.click(submitButton());
    await waitFor(() => expect(studio.posted('/api/v1/tasks')).toHaveLength(2));
  });

  it('shows the line and the reason of a refused data set in place', async () => {
    store('draft', { ...filled, source: 'paste', dataset: '', pasted: '{"instruction": "x"' });
    const detail = 'line 1: not valid JSON: EOF while parsing an object';
    studio.set('POST /api/v1/datasets/paste', {
      status: 400,
      body: { detail, code: 'dataset-invalid', next_step: 'Write one JSON object per line.' },
    });
    showForm();
    await userEvent.click(screen.getByTestId('dataset-text-use'));
    const error = await screen.findByTestId('dataset-error');
    expect(within(error).getByText(detail)).toBeTruthy();
    expect(within(error).getByText('Write one JSON object per line.')).toBeTruthy();
  });

  it('stores pasted text by itself before it submits', async () => {
    store('draft', { ...filled, source: 'paste', dataset: '', pasted: '[{"instruction":"a","output":"b"}]' });
    studio.set('POST /api/v1/datasets/paste', { status: 201, body: { ...dataset, path: '/uploads/pasted.json' } });
    showForm();
    await userEvent.click(submitButton());
    await screen.findByTestId('submit-result');
    expect(studio.posted('/api/v1/datasets/paste')[0].body).toMatchObject({
      filename: expect.stringMatching(/^pasted-\d{8}-\d{6}\.json$/),
    });
    expect(studio.posted('/api/v1/tasks')[0].body).toMatchObject({
      fine_tune: { dataset_file: '/uploads/pasted.json' },
    });
  });

  it('submits a sweep as one group and says how many tasks that makes', async () => {
    const lines = [
      { field: 'lora_rank', values: ['8', '16'] },
      { field: 'learning_rate', values: ['1e-4', '5e-5', 'ten'] },
    ];
    store('draft', { ...filled, advanced: true, sweep: lines, hold: true });
    studio.set('POST /api/v1/groups', {
      status: 201,
      body: { group: 'g', tasks: [member(7, 0, 2, 'training'), member(7, 1, 2, 'queued')], warnings: [] },
    });
    showForm();
    expect(screen.getByTestId('sweep-size').textContent).toBe('Makes 6 tasks');
    await userEvent.click(submitButton());
    expect(screen.getByText('Not a number: ten')).toBeTruthy();
    expect(studio.posted('/api/v1/groups')).toEqual([]);

    await userEvent.click(within(screen.getByTestId('sweep')).getAllByLabelText('close').at(-1) as HTMLElement);
    expect(screen.getByTestId('sweep-size').textContent).toBe('Makes 4 tasks');
    await userEvent.click(submitButton());
    const result = await screen.findByTestId('submit-result');
    expect(result.textContent).toContain('2 tasks submitted');
    expect(result.textContent).toContain('1 of them wait');
    expect(studio.posted('/api/v1/groups')[0].body).toMatchObject({
      task: { fine_tune: { model_name: '/models/tiny' }, hold: true },
      over: { lora_rank: [8, 16], learning_rate: [1e-4, 5e-5] },
    });
    expect(studio.posted('/api/v1/tasks')).toEqual([]);
  });

  it('submits a command as it would be typed into a shell', async () => {
    store('draft', { ...emptyDraft, kind: 'command', line: `python3 "my train.py" --x '` });
    showForm();
    await userEvent.click(submitButton());
    expect(await screen.findByText('A quote is not closed.', {}, { timeout: 5_000 })).toBeTruthy();
    expect(screen.getByText(/Type an absolute path/)).toBeTruthy();

    await userEvent.type(screen.getByLabelText('Command', { selector: 'textarea' }), "'");
    await userEvent.type(screen.getByLabelText('Working folder'), '/work');
    await userEvent.type(screen.getByLabelText('GPU memory (GiB)'), '2');
    await userEvent.click(submitButton());
    await screen.findByTestId('submit-result');
    expect(studio.posted('/api/v1/tasks')[0].body).toEqual({
      command: { argv: ['python3', 'my train.py', '--x', ''], cwd: '/work', memory_bytes: 2 * 1024 ** 3, share: false },
    });
  });

  it('keeps the draft over a reload', async () => {
    const { unmount } = showForm();
    await userEvent.type(screen.getByLabelText('Model'), 'Qwen/x');
    unmount();
    showForm();
    expect(screen.getByLabelText<HTMLInputElement>('Model').value).toBe('Qwen/x');
  });

  it('says that the studio cannot be reached', async () => {
    store('draft', filled);
    showForm();
    await waitFor(() => expect(screen.getByText('Where?')).toBeTruthy());
    studio.set('POST /api/v1/tasks', () => Promise.reject(new TypeError('Failed to fetch')));
    await userEvent.click(submitButton());
    expect(await screen.findByText('The studio cannot be reached.')).toBeTruthy();
  });
});

describe('a draft', () => {
  it('sends no advanced field that is out of sight', () => {
    const draft = { ...filled, overrides: { num_epochs: 9 }, hold: true };
    expect(requestOf(draft).fine_tune?.num_epochs).toBeUndefined();
    expect(requestOf(draft).hold).toBeUndefined();
    expect(requestOf({ ...draft, advanced: true })).toMatchObject({ fine_tune: { num_epochs: 9 }, hold: true });
  });

  it('says when the task may start', () => {
    const draft = { ...filled, priority: 'high' as const, after: ['finetune_1_1', 'finetune_1_2'] };
    expect(requestOf(draft)).not.toHaveProperty('priority');
    const shown = { ...draft, advanced: true };
    expect(requestOf(shown)).toMatchObject({ priority: 'high', after: draft.after });
    expect(requestOf({ ...shown, afterAny: true }).after).toEqual(['finetune_1_1,any', 'finetune_1_2,any']);
    expect(draftOf(task(3, 'completed', { priority: 'urgent' })).priority).toBe('urgent');
    expect(isDraft({ ...draft, after: [7] }) || isDraft({ ...draft, priority: 'top' })).toBe(false);
    expect(isDraft(JSON.parse(JSON.stringify(draft)))).toBe(true);
  });

  it('says its terms in times that everybody understands', () => {
    const draft = {
      ...filled,
      advanced: true,
      startAfter: '2030-01-31T22:00',
      deadline: '2030-02-01T08:30',
      retries: 0,
    };
    expect(requestOf(draft)).toMatchObject({
      start_after: new Date(2030, 0, 31, 22, 0).toISOString(),
      deadline: new Date(2030, 1, 1, 8, 30).toISOString(),
      retries: 0,
    });
    expect(groupOf({ ...draft, sweep: [{ field: 'seed', values: [] }] })).toBeNull();
    expect(groupOf({ ...draft, advanced: false, sweep: [{ field: 'seed', values: ['1'] }] })).toBeNull();
    expect(isDraft({ ...draft, sweep: [{ field: 'seed', values: [1] }] })).toBe(false);
  });

  it('cloned from a task repeats its recipe', () => {
    const config = { learning_rate: 1e-4, num_epochs: 2, schedule: 'linear', load_in_8bit: false, kind: 'fine_tune' };
    const draft = draftOf(task(3, 'completed', { config, time_limit_seconds: 5400, name: 'mine' }));
    expect(requestOf(draft)).toEqual({
      name: 'mine',
      fine_tune: {
        ...{ model_name: '/models/tiny', dataset_file: '/uploads/faq.jsonl', preset: 'balanced' },
        ...{ learning_rate: 1e-4, num_epochs: 2, schedule: 'linear', load_in_8bit: false },
      },
      time_limit_seconds: 5400,
    });
    expect(isDraft(JSON.parse(JSON.stringify(draft)))).toBe(true);
  });

  it('of an older page is not taken up', () => {
    store('draft', { model: 'x' });
    expect(readStored('draft', emptyDraft, isDraft)).toBe(emptyDraft);
    localStorage.setItem('sage.draft', '{');
    expect(readStored('draft', emptyDraft, isDraft)).toBe(emptyDraft);
  });
});
