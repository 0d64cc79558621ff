import { QueryClientProvider } from '@tanstack/react-query';
import { render, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { App } from 'antd';
import { MemoryRouter } from 'react-router';
import { beforeEach, describe, expect, it } from 'vitest';
import { makeQueryClient } from '../src/api/queries';
import { DraftProvider } from '../src/features/new-task/DraftProvider';
import { draftOf, emptyDraft, isDraft, requestOf } from '../src/features/new-task/draft';
import { NewTaskForm } from '../src/features/new-task/NewTaskForm';
import { PreferencesProvider } from '../src/shared/preferences';
import { readStored, store } from '../src/shared/storage';
import { fakeStudio } from './fakeStudio';
import { answer, task, wait } from './samples';

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
