import { describe, expect, it } from 'vitest';
import { splitLine } from '../src/features/new-task/commandLine';
import { overOf, sweepSize, wrongValues } from '../src/features/new-task/sweep';

const line = (field: string, ...values: string[]) => ({ field, values });

describe('a sweep', () => {
  it('makes a task for each combination; what is not filled in does not count', () => {
    expect(sweepSize([])).toBe(0);
    expect(sweepSize([line('seed'), line('', '1', '2')])).toBe(0);
    expect(sweepSize([line('seed', '1', '2', '3')])).toBe(3);
    expect(sweepSize([line('seed', '1', '2', '3'), line('lora_rank', '8', '16'), line('schedule')])).toBe(6);
  });

  it('sends numbers where the parameter is one', () => {
    expect(
      overOf(
        [line('learning_rate', '1e-4', '0.01'), line('schedule', 'linear'), line(' part ', '01'), line('seed')],
        'fine_tune',
      ),
    ).toEqual({ learning_rate: [1e-4, 0.01], schedule: ['linear'], part: ['01'] });
    expect(overOf([line('seed', '01')], 'command')).toEqual({ seed: ['01'] });
  });

  it('names the values that are none', () => {
    expect(wrongValues(line('lora_rank', '8', 'eight', '0x'))).toEqual(['eight', '0x']);
    expect(wrongValues(line('schedule', 'linear'))).toEqual([]);
  });
});

describe('a command line', () => {
  it('is split as a shell would', () => {
    expect(splitLine(' python3  train.py\t--lr 1e-4\n')).toEqual(['python3', 'train.py', '--lr', '1e-4']);
    expect(splitLine(`a 'b c' "d \\"e\\" \\n" f\\ g --x="1 2"`)).toEqual(['a', 'b c', 'd "e" \\n', 'f g', '--x=1 2']);
    expect(splitLine(`--name "" ''`)).toEqual(['--name', '', '']);
    expect(splitLine('one \\\n two')).toEqual(['one', 'two']);
    expect(splitLine('echo $HOME *')).toEqual(['echo', '$HOME', '*']);
    expect(splitLine('  ')).toEqual([]);
  });

  it('with an open quote is none', () => {
    expect(splitLine(`a "b`)).toBeNull();
    expect(splitLine(`it's`)).toBeNull();
  });
});
