import { describe, expect, it } from 'vitest';
import { recommendationIn } from '../src/features/gpus/recommendation';
import { smooth, withProgress } from '../src/features/task/metrics';
import {
  formatBytes,
  formatDuration,
  formatLoss,
  formatRate,
  formatStep,
  formatTime,
  lastSegment,
  secondsBetween,
} from '../src/shared/format';
import { progress } from './samples';

describe('figures', () => {
  it('writes bytes in binary units and never as 1024 of one', () => {
    expect([0, 1023, 1024, 1048524, 1048575, 11509170995].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1.0 KiB',
      '1023.9 KiB',
      '1.0 MiB',
      '10.7 GiB',
    ]);
  });

  it('writes durations in both languages, two units at most', () => {
    const both = (seconds: number) => [formatDuration(seconds, 'zh-CN'), formatDuration(seconds, 'en')];
    expect(both(0)).toEqual(['0 秒', '0 s']);
    expect(both(59.9)).toEqual(['59 秒', '59 s']);
    expect(both(3600)).toEqual(['1 小时', '1 h']);
    expect(both(3905)).toEqual(['1 小时 5 分', '1 h 5 min']);
    expect(both(3605)).toEqual(['1 小时', '1 h']);
    expect(both(200_000)).toEqual(['2 天 7 小时', '2 d 7 h']);
    expect(both(-5)).toEqual(['0 秒', '0 s']);
  });

  it('writes short times with their fractions, and never as nothing', () => {
    const written = [0.0000031, 0.0042, 0.42, 3.14, 31.4, 61, 0].map((seconds) => formatStep(seconds, 'en'));
    expect(written).toEqual(['< 0.001 s', '0.004 s', '0.42 s', '3.1 s', '31 s', '1 min 1 s', '0.000 s']);
  });

  it('counts to now while there is no end', () => {
    expect(secondsBetween('2026-01-01T00:00:00Z', null, Date.parse('2026-01-01T00:01:30Z'))).toBe(90);
    expect(secondsBetween('2026-01-01T00:00:00Z', '2026-01-01T00:00:10Z', 0)).toBe(10);
  });

  it('leaves the day out of a time of today', () => {
    const now = new Date(2026, 4, 6, 20, 0).getTime();
    expect(formatTime(new Date(2026, 4, 6, 9, 5).toISOString(), 'en', now)).toBe('09:05');
    expect(formatTime(new Date(2026, 4, 5, 9, 5).toISOString(), 'zh-CN', now)).toBe('05/05 09:05');
  });

  it('writes losses and rates so that small ones can be read', () => {
    expect([null, 1.23456, 0.00004, 0].map(formatLoss)).toEqual(['–', '1.2346', '4.00e-5', '0.0000']);
    expect([5e-5, 0.000123, 0, 1].map(formatRate)).toEqual(['5e-5', '1.23e-4', '0', '1e0']);
  });

  it('shows the last part of a path or id', () => {
    expect(['/data/qwen/', 'Qwen/Qwen2.5-0.5B', 'C:\\m\\x', 'plain'].map(lastSegment)).toEqual([
      'qwen',
      'Qwen2.5-0.5B',
      'x',
      'plain',
    ]);
  });
});

describe('the recommendation', () => {
  const documented = 'NVIDIA GeForce RTX 3060 (12.0GB): 推荐 Qwen 2.5 Coder 1.5B（最佳平衡）或 0.5B（最快训练）';

  it('stays to the letter in Chinese', () => {
    expect(recommendationIn('zh-CN', documented)).toBe(documented);
  });

  it('has an English wording for every sentence of the studio', () => {
    const english = [
      documented,
      'NVIDIA A100 (80.0GB): 推荐 Qwen 2.5 Coder 7B 或 3B',
      'NVIDIA GTX 1050 (4.0GB): 推荐 Qwen 2.5 Coder 0.5B',
      '检测到 2 块 GPU（总显存 24.0GB）：支持多卡并行训练',
      '检测到 2 块 GPU（总显存 24.0GB）：支持多卡并行训练（模拟 GPU）',
      'CPU 模式（不推荐微调）',
      'GPU 检测失败: no driver',
    ].map((sentence) => recommendationIn('en', sentence));
    expect(english[0]).toBe(
      'NVIDIA GeForce RTX 3060 (12.0GB): recommended: Qwen 2.5 Coder 1.5B (best balance) or 0.5B (fastest training)',
    );
    for (const sentence of english) expect(sentence).not.toMatch(/[\u3000-\u9fff\uff00-\uffef]/);
  });
});

describe('the curves', () => {
  const point = (step: number, loss: number) => ({
    ...{ step, loss, epoch: 0, learning_rate: null, grad_norm: null },
    ...{ tokens_per_second: null, memory_bytes: null },
  });

  it('grow by a reading that is new and by no other', () => {
    const metrics = { train: [point(1, 2)], eval: [] };
    expect(withProgress(metrics, progress({ step: 1, loss: 1 }))).toBe(metrics);
    expect(withProgress(metrics, progress({ step: 2, loss: null }))).toBe(metrics);
    expect(withProgress(metrics, progress({ step: 2, loss: 1 })).train.map(({ loss }) => loss)).toEqual([2, 1]);
  });

  it('are thinned before they get too long, and keep their newest point', () => {
    const metrics = { train: Array.from({ length: 4000 }, (_, index) => point(index + 1, 1)), eval: [] };
    const { train } = withProgress(metrics, progress({ step: 4001, loss: 0.5 }));
    expect(train.length).toBeLessThan(2100);
    expect(train.at(-1)).toMatchObject({ step: 4001, loss: 0.5 });
  });

  it('are smoothed without lagging behind', () => {
    expect(smooth([4, 3, 2, 1, 0], 2)).toEqual([4, 3, 2, 1, 0]);
    expect(smooth([0, 3, 0], 1)).toEqual([0, 1, 0]);
    expect(smooth([], 3)).toEqual([]);
  });
});
