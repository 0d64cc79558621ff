import { QueryClientProvider } from '@tanstack/react-query';
import { render, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { App } from 'antd';
import { MemoryRouter } from 'react-router';
import { beforeEach, describe, expect, it } from 'vitest';
import { makeQueryClient } from '../src/api/queries';
import type { Devices } from '../src/api/types';
import { DeviceBanner } from '../src/features/gpus/DeviceBanner';
import { DraftProvider } from '../src/features/new-task/DraftProvider';
import { emptyDraft, patched, requestOf, withRequest } from '../src/features/new-task/draft';
import { METHODS, methodOf } from '../src/features/new-task/methods';
import { NewTaskForm } from '../src/features/new-task/NewTaskForm';
import { targetsOf, targetText } from '../src/features/new-task/targets';
import { Doctor } from '../src/features/settings/Doctor';
import { MemorySection } from '../src/features/task/MemorySection';
import { WaitNotice } from '../src/features/task/WaitNotice';
import { PreferencesProvider } from '../src/shared/preferences';
import { store } from '../src/shared/storage';
import { fakeStudio } from './fakeStudio';
import { alternative, answer, device, estimate, GIB, held, memory, progress, task, wait } from './samples';

let studio: ReturnType<typeof fakeStudio>;

const devices = (...list: Devices['devices']): Devices => ({
  ...{ detecting: false, age_seconds: 0.2, devices: list, simulated: false },
  ...{ recommendation: '检测到 2 块 GPU（总显存 48.0GB）：支持多卡并行训练', findings: [] },
});

beforeEach(() => {
  store('language', 'en');
  studio = fakeStudio({
    'GET /api/v1/studio': { default_time_limit_seconds: 21600, upload_limit_bytes: 1e9, queue_warning: 5 },
    'GET /api/v1/models': [],
    'GET /api/v1/presets': [],
    'GET /api/v1/datasets': [],
    'GET /api/v1/devices': devices(device()),
    'GET /api/v1/tasks': { tasks: [], next_before: null, counts: {}, last_event_id: 1 },
    'POST /api/v1/estimate': answer(),
  });
});

function show(element: React.ReactNode) {
  return render(
    <QueryClientProvider client={makeQueryClient()}>
      <PreferencesProvider>
        <App>
          <MemoryRouter>
            <DraftProvider>{element}</DraftProvider>
          </MemoryRouter>
        </App>
      </PreferencesProvider>
    </QueryClientProvider>,
  );
}

const filled = { ...emptyDraft, model: 'Qwen/Qwen2.5-7B', source: 'choose' as const, dataset: '/uploads/faq.jsonl' };

describe('the estimate beside the form', () => {
  it('says whether it fits, what it needs and by which trainer', async () => {
    store('draft', filled);
    show(<NewTaskForm />);
    const panel = await screen.findByTestId('estimate');
    expect(await within(panel).findByText('fits now: it needs 10.0 GiB')).toBeTruthy();
    expect(within(panel).getByTestId('estimate-memory').textContent).toBe('8.0 GiB (7.5 GiB to 9.0 GiB)');
    expect(within(panel).getByTestId('estimate-time').textContent).toBe('1 h 5 min 0.50 s per step');
    expect(within(panel).getByTestId('estimate-trainer').textContent).toContain('weights of 8 bits need it.');
    expect((await within(panel).findByTestId('fit-bar')).textContent).toContain('13.5 GiB left afterwards');
    expect(studio.posted('/api/v1/estimate')[0].body).toEqual(requestOf(filled).fine_tune);
  });

  it('asks once when the typing stops, not at every letter', async () => {
    show(<NewTaskForm />);
    expect(screen.queryByTestId('estimate')).toBeNull();
    await userEvent.type(screen.getByLabelText('Model'), 'Qwen/a');
    await screen.findByText('fits now: it needs 10.0 GiB');
    expect(studio.posted('/api/v1/estimate').length).toBeLessThan('Qwen/a'.length);
    expect(studio.posted('/api/v1/estimate').at(-1)?.body).toMatchObject({ model_name: 'Qwen/a' });
  });

  it('fills the form with a configuration that fits, in one click', async () => {
    store('draft', filled);
    const verdict = { code: 'does_not_fit' as const, zh: '放不下', en: 'Needs 40.0 GiB.' };
    studio.set('POST /api/v1/estimate', answer({ verdict, alternatives: [alternative()] }));
    show(<NewTaskForm />);
    expect(await screen.findByText('Needs 40.0 GiB.')).toBeTruthy();
    await userEvent.click(screen.getByRole('button', { name: /Use this: 4-bit weights/ }));
    await waitFor(() =>
      expect(studio.posted('/api/v1/estimate').at(-1)?.body).toMatchObject({ load_in_4bit: true, batch_size: 1 }),
    );
    expect(screen.getByLabelText<HTMLInputElement>('Batch size').value).toBe('1');
  });

  it('says that a time is unknown, and why there is no estimate', async () => {
    store('draft', filled);
    studio.set(
      'POST /api/v1/estimate',
      answer({ estimate: estimate({ seconds_per_step: null, total_seconds: null }) }),
    );
    const { unmount } = show(<NewTaskForm />);
    expect((await screen.findByTestId('estimate-time')).textContent).toBe('unknown');
    unmount();
    studio.set('POST /api/v1/estimate', { status: 422, body: { detail: 'no such model', code: 'model-unknown' } });
    show(<NewTaskForm />);
    expect((await screen.findByTestId('estimate-error')).textContent).toBe('No estimate: no such model');
  });

  it('takes back what was submitted and does not fit, and submits what does', async () => {
    store('draft', filled);
    const queued = { ...task(7, 'queued'), alternatives: [alternative()] };
    studio.set('POST /api/v1/tasks', { status: 201, body: queued });
    studio.set(`POST /api/v1/tasks/${queued.task_id}/cancel`, queued);
    show(<NewTaskForm />);
    await userEvent.click(screen.getByTestId('submit-task'));
    studio.set('POST /api/v1/tasks', { status: 201, body: { ...task(8, 'preparing'), alternatives: [] } });
    await userEvent.click(await screen.findByRole('button', { name: /Submit this instead/ }));
    await waitFor(() => expect(studio.posted('/api/v1/tasks')).toHaveLength(2));
    expect(studio.posted(`/api/v1/tasks/${queued.task_id}/cancel`)).toHaveLength(1);
    expect(studio.posted('/api/v1/tasks')[1].body).toMatchObject({ fine_tune: { load_in_4bit: true, batch_size: 1 } });
  });
});

describe('the devices', () => {
  it('show whose memory it is, by name, and what is unknown as unknown', async () => {
    const shared = device({
      memory: memory(13 * GIB),
      grants: [{ task_id: 'finetune_1', bytes: 4 * GIB }],
      processes: [held(1, 3 * GIB, { task_id: 'finetune_1' }), held(41233, 10 * GIB), held(9, null, { name: 'ghost' })],
      unattributed_bytes: null,
      free_for_tasks_bytes: 9.5 * GIB,
    });
    studio.set('GET /api/v1/devices', devices(shared, device({ id: 'GPU-2', index: 1, memory: null })));
    show(<DeviceBanner />);
    const legend = await screen.findByTestId('memory-legend');
    const lines = [...legend.querySelectorAll('li')].map((line) => line.textContent);
    expect(lines).toEqual([
      'finetune_13.0 GiB of 4.0 GiB granted',
      'python3pid 41233, li10.0 GiB',
      'ghostpid 9, liunknown',
      'Reserved by the driver512.0 MiB',
      'Free9.5 GiB',
    ]);
    expect(screen.getByText('9.5 GiB of 24.0 GiB free for tasks')).toBeTruthy();
    expect(screen.getByText('Memory reading unknown')).toBeTruthy();
    expect(screen.getByRole('meter').getAttribute('aria-valuetext')).toContain('python3 10.0 GiB');
  });

  it('say how old a reading is, why one cannot be used, and what its health is', async () => {
    const unusable = { code: 'gpu-not-answering', zh: '没有应答', en: 'the driver has not answered for 32 s.' };
    const xid = { code: 79, at: '2026-01-01T00:00:00Z' };
    const health = { uncorrected_ecc_errors: 3, row_remap_pending: true, last_xid: xid };
    studio.set('GET /api/v1/devices', devices(device({ age_seconds: 95, unusable, health, unified_memory: true })));
    show(<DeviceBanner />);
    expect((await screen.findByTestId('device-stale')).textContent).toContain('1 min 35 s');
    expect(screen.getByText('the driver has not answered for 32 s.')).toBeTruthy();
    expect(screen.getByText(/XID 79/)).toBeTruthy();
    expect(screen.getByText(/memory errors since the driver was loaded: 3/)).toBeTruthy();
    expect(screen.getByText(/rows wait to be replaced/)).toBeTruthy();
    expect(screen.getByText('Unified memory')).toBeTruthy();
  });

  it('get a line each where there are many, the instances of one GPU together', async () => {
    const many = Array.from({ length: 7 }, (_, index) => device({ id: `GPU-${index}`, index }));
    const mig = { parent: 'GPU-7', profile: '3g.40gb', gpu_instance: 1, compute_instance: 0 };
    studio.set('GET /api/v1/devices', devices(...many, device({ id: 'MIG-1', index: 7, mig })));
    show(<DeviceBanner />);
    expect(await screen.findAllByTestId('device')).toHaveLength(8);
    expect(document.querySelectorAll('details.device-row')).toHaveLength(8);
    expect(within(screen.getByTestId('mig-group')).getByText('3g.40gb')).toBeTruthy();
  });
});

describe('a task', () => {
  it('shows what was expected beside what was measured, and what was changed on the way', async () => {
    const shown = task(3, 'completed', {
      estimate: estimate(),
      started_at: '2026-01-01T00:00:00Z',
      progress: progress({ peak_bytes: 8.4 * GIB }),
      adjustments: ['halve_micro_batch', 'halve_micro_batch', 'load4bit'],
    });
    show(<MemorySection task={shown} />);
    const section = screen.getByTestId('task-memory');
    expect(section.querySelector('[data-row=peak]')?.textContent).toContain('8.4 GiB (+5% off)');
    expect([...screen.getByTestId('adjustments').querySelectorAll('li')].map((line) => line.textContent)).toEqual([
      'Half the batch size, twice the accumulation × 2',
      'Base model in 4 bits',
    ]);
  });

  it('that was not measured says so', () => {
    show(<MemorySection task={task(3, 'failed', { estimate: estimate(), started_at: '2026-01-01T00:00:00Z' })} />);
    expect(screen.getByTestId('task-memory').querySelector('[data-row=peak]')?.textContent).toContain('unknown');
  });

  it('that waits tells how much is missing and who has it', () => {
    const holders = [
      { pid: 41233, name: 'python3', bytes: 61 * GIB, task_id: null },
      { pid: null, name: null, bytes: null, task_id: 'finetune_1' },
    ];
    const figures = { needed_bytes: 30 * GIB, free_bytes: 18 * GIB, device: 'GPU 0', holders };
    show(<WaitNotice wait={{ ...wait(1), code: 'device_memory', ...figures }} />);
    expect(screen.getByText('12.0 GiB')).toBeTruthy();
    expect(screen.getByTestId('wait-holders').textContent).toContain('python3 · pid 41233 · 61.0 GiB');
    expect(screen.getByTestId('wait-holders').textContent).toContain('finetune_1 · unknown');
  });
});

describe('the doctor', () => {
  it('runs on demand and says in words what is wrong and what to do', async () => {
    studio.set('GET /api/v1/gpus/doctor', [
      { subject: 'driver', status: 'ok', zh: '正常', en: 'The driver is loaded.', next_zh: '', next_en: '' },
      { subject: 'caps', status: 'problem', zh: '无权限', en: 'No permission.', next_zh: '改', next_en: 'Join video.' },
    ]);
    show(<Doctor />);
    expect(screen.queryByText('The driver is loaded.')).toBeNull();
    await userEvent.click(screen.getByTestId('doctor-run'));
    expect(await screen.findByText('Problems found: 1')).toBeTruthy();
    expect(screen.getByText('What to do: Join video.')).toBeTruthy();
    expect(screen.getByText('Problem')).toBeTruthy();
  });
});

describe('the fields of a recipe', () => {
  it('put a method into words and back', () => {
    for (const { key, fields } of METHODS) expect(methodOf(fields)).toBe(key);
    expect(methodOf({})).toBe('qlora8');
    expect(methodOf({ load_in_4bit: true })).toBe('qlora4');
  });

  it('take LoRA targets as a word or as names', () => {
    expect([' all ', 'qv', 'q_proj， v_proj', 'q_proj', ' '].map(targetsOf)).toEqual([
      'all',
      'qv',
      ['q_proj', 'v_proj'],
      ['q_proj'],
      null,
    ]);
    expect(targetText(['q_proj', 'v_proj'])).toBe('q_proj, v_proj');
  });

  it('are patched where they differ and filled from a whole request', () => {
    const draft = { ...filled, overrides: { seed: 7, batch_size: 4 } };
    expect(patched(draft, { batch_size: 1, loss: null }).overrides).toEqual({ seed: 7, batch_size: 1 });
    const request = { model_name: 'm', dataset_file: '', preset: null, method: 'full', trainer: null };
    expect(withRequest(draft, request)).toMatchObject({
      ...{ model: 'm', dataset: filled.dataset, advanced: true, preset: 'balanced' },
      overrides: { method: 'full' },
    });
    expect(withRequest(draft, request).overrides).toEqual({ method: 'full' });
  });
});
