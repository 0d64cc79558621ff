import { describe, expect, it } from 'vitest';
import { cleanLine, LogBuffer, MAX_LINES } from '../src/features/task/logBuffer';

describe('a log', () => {
  it('joins lines that come in pieces', () => {
    const log = new LogBuffer();
    log.append('one\ntw', 6);
    expect(log.lines).toEqual(['one']);
    log.append('o\nthree\n', 14);
    expect(log.lines).toEqual(['one', 'two', 'three']);
    expect(log.offset).toBe(14);
  });

  it('begun in the middle leaves out the line that was cut', () => {
    const log = new LogBuffer(100);
    log.append('rest of a li', 112);
    log.append('ne\nwhole\n', 121);
    expect(log.lines).toEqual(['whole']);
  });

  it('is shown as a terminal would leave it', () => {
    expect(cleanLine('\u001b[32mINFO\u001b[0m ready')).toBe('INFO ready');
    expect(cleanLine(' 10%|#  |\r 20%|## |\r')).toBe(' 20%|## |');
    expect(cleanLine('\r')).toBe('');
    expect(cleanLine('[12:00:00] 第 1 步')).toBe('[12:00:00] 第 1 步');
  });

  it('finds a text in any case', () => {
    const log = new LogBuffer();
    log.append('Loss 1\nnothing\nloss 2\n', 22);
    expect(log.find('LOSS')).toEqual([0, 2]);
    expect(log.find('')).toEqual([]);
  });

  it('takes 100,000 lines at once in a blink, and lets the oldest go in the end', () => {
    const log = new LogBuffer();
    const text = 'step 1/100000 loss 1.2345 lr 5.00e-5\n'.repeat(100_000);
    const start = performance.now();
    log.append(text, text.length);
    log.find('loss 1.2');
    expect(performance.now() - start).toBeLessThan(2_000);
    expect(log.lines).toHaveLength(100_000);
    for (let round = 0; round < 5; round += 1) log.append(text, text.length);
    expect(log.lines).toHaveLength(MAX_LINES);
    expect(log.dropped).toBe(100_000);
  });
});
