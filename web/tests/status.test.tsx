import { render, screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { describe, expect, it } from 'vitest';
import { TaskState } from '../src/features/queue/cells';
import { expectedStart } from '../src/features/queue/expected';
import { StatusTag } from '../src/features/queue/StatusTag';
import { isFinal, isRunning, isStatus, STATUSES } from '../src/features/queue/status';
import en from '../src/i18n/en.json';
import zh from '../src/i18n/zh-CN.json';
import { formatTime } from '../src/shared/format';
import { PreferencesProvider } from '../src/shared/preferences';
import { store } from '../src/shared/storage';
import { task, wait } from './samples';

describe('states', () => {
  it('have the words and colours that people know', () => {
    const shown = Object.entries(STATUSES).map(([status, { text, color }]) => [status, zh[text], en[text], color]);
    expect(shown).toEqual([
      ['pending', '等待中', 'Pending', 'default'],
      ['queued', '排队中', 'Queued', 'gold'],
      ['preparing', '准备中', 'Preparing', 'cyan'],
      ['training', '训练中', 'Training', 'blue'],
      ['completed', '已完成', 'Completed', 'green'],
      ['failed', '失败', 'Failed', 'red'],
      ['cancelled', '已取消', 'Cancelled', 'default'],
    ]);
    expect(isStatus('queued')).toBe(true);
    expect(isStatus('toString')).toBe(false);
    const all = Object.keys(STATUSES).filter(isStatus);
    expect(all.filter(isRunning)).toEqual(['preparing', 'training']);
    expect(all.filter(isFinal)).toEqual(['completed', 'failed', 'cancelled']);
  });

  it('say in the chosen language why a queued task waits', async () => {
    store('language', 'zh-CN');
    render(
      <PreferencesProvider>
        <StatusTag task={task(2, 'queued')} />
      </PreferencesProvider>,
    );
    const tag = await screen.findByText('排队中');
    await userEvent.hover(tag);
    expect(await screen.findByText('排在第 1 位，等待 finetune_1700000000_1 释放设备')).toBeTruthy();
  });
});

describe('a reason for waiting', () => {
  it('stands with the sign of its kind, also one that is not known here', () => {
    const tone = (code: string) => {
      const { unmount } = render(
        <PreferencesProvider>
          <TaskState task={task(2, 'queued', { wait: { ...wait(1), code } })} />
        </PreferencesProvider>,
      );
      const shown = screen.getByTestId('wait-reason');
      const found = shown.querySelector('.anticon') && shown.dataset.tone;
      unmount();
      return found;
    };
    expect(['disk_full', 'host_memory', 'too_large'].map(tone)).toEqual(Array(3).fill('act'));
    expect(['queue_paused', 'quiet_hours', 'not_before', 'quota'].map(tone)).toEqual(Array(4).fill('switched'));
    expect(['retry', 'not_paying', 'reclaimed', 'of_next_year'].map(tone)).toEqual(Array(4).fill('normal'));
  });
});

describe('the expected start', () => {
  const now = Date.parse('2026-01-01T12:00:00Z');
  const at = (minutes: number) => new Date(now + minutes * 60_000).toISOString();

  it('is a time, soon, or not to be told', () => {
    expect(expectedStart({ starts_at: null }, now)).toBe(null);
    expect(expectedStart({ starts_at: at(1) }, now)).toBe(at(1));
    expect(expectedStart({ starts_at: at(0.9) }, now)).toBe('soon');
    expect(expectedStart({ starts_at: at(-30) }, now)).toBe('soon');
  });

  it('stands with the class under the reason in the list', () => {
    store('language', 'en');
    const starts_at = new Date(Date.now() + 3_600_000).toISOString();
    const shown = (part: Parameters<typeof task>[2]) => {
      const { container, unmount } = render(
        <PreferencesProvider>
          <TaskState task={task(2, 'queued', part)} />
        </PreferencesProvider>,
      );
      const text = container.textContent ?? '';
      unmount();
      return text;
    };
    const urgent = shown({ priority: 'urgent', wait: { ...wait(1), starts_at } });
    expect(urgent).toContain('Urgent');
    expect(urgent).toContain(`Expected to start about ${formatTime(starts_at, 'en')}`);
    expect(shown({})).not.toMatch(/Normal|Expected/);
  });
});
