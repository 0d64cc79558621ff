/** More lines than this and the oldest go. */
export const MAX_LINES = 500_000;

// biome-ignore lint/suspicious/noControlCharactersInRegex: terminal escapes are what is removed
const ESCAPES = /\u001b\[[0-9;?]*[ -/]*[@-~]/g;

/** A line as a terminal would leave it: colours off, a progress bar at its last redraw. */
export function cleanLine(line: string): string {
  const text = line.includes('\u001b') ? line.replace(ESCAPES, '') : line;
  if (!text.includes('\r')) return text;
  return text.split('\r').findLast((part) => part !== '') ?? '';
}

/** A log as lines, grown at its end; `offset` is where the next byte belongs. */
export class LogBuffer {
  lines: string[] = [];
  /** Lines that are no longer kept. */
  dropped = 0;
  offset: number;
  private partial = '';
  /** Begun within a line, whose rest says nothing. */
  private skipping: boolean;

  constructor(offset = 0) {
    this.offset = offset;
    this.skipping = offset > 0;
  }

  append(text: string, end: number): void {
    const parts = (this.partial + text).split('\n');
    this.partial = parts.pop() ?? '';
    if (this.skipping && parts.length > 0) {
      parts.shift();
      this.skipping = false;
    }
    for (const part of parts) this.lines.push(cleanLine(part));
    this.offset = end;
    // Seldom and much at once: dropping moves the whole array.
    if (this.lines.length > MAX_LINES * 1.1) {
      this.dropped += this.lines.length - MAX_LINES;
      this.lines = this.lines.slice(-MAX_LINES);
    }
  }

  /** The numbers of the lines that contain `query`, whatever the case. */
  find(query: string): number[] {
    const wanted = query.toLowerCase();
    const found: number[] = [];
    if (wanted === '') return found;
    for (let index = 0; index < this.lines.length; index += 1) {
      if (this.lines[index].toLowerCase().includes(wanted)) found.push(index);
    }
    return found;
  }
}
