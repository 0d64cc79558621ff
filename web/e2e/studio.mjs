// A studio of the test's own: the real binary in a home of its own.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const READY = /^SAGE Studio listening on (http:\/\/\S+)$/;
/** For a start, and for an end, on a busy machine. */
const PATIENCE = 60_000;
/** For an answer of a studio that may be stuck. */
const ANSWER = 10_000;

export class Studio {
  #binary;
  #child = null;
  #port = 0;
  #environment;

  constructor(binary, home, environment) {
    this.#binary = binary;
    this.home = home;
    // One device, whatever the machine has.
    this.#environment = { ...process.env, HOME: home, SAGE_HOME: home, SAGE_DISABLE_NVML: '1', ...environment };
  }

  static async inNewHome(binary, environment = {}) {
    return new Studio(binary, await mkdtemp(join(tmpdir(), 'sage-page-')), environment);
  }

  /** Runs one command of the binary to its end. */
  async run(...args) {
    const { stdout } = await promisify(execFile)(this.#binary, args, { env: this.#environment });
    return stdout;
  }

  /** On any free port the first time, on the same one afterwards. */
  async start() {
    const args = ['studio', 'start', '--foreground', '--port', String(this.#port), '--second-port', 'none'];
    const child = spawn(this.#binary, args, { env: this.#environment, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    // It does not outlive the test, however that ends.
    const end = () => child.kill('SIGKILL');
    process.once('exit', end);
    child.once('exit', () => process.off('exit', end));
    const said = [];
    child.stderr.on('data', (bytes) => said.push(bytes));
    const allSaid = new Promise((done) => child.stderr.once('close', done));
    const url = await firstUrl(child);
    if (!url) {
      child.kill('SIGKILL');
      // What it has started may keep its output open.
      await Promise.race([allSaid, new Promise((done) => setTimeout(done, 2000).unref())]);
      throw new Error(`the studio did not start:\n${Buffer.concat(said)}`);
    }
    this.url = url;
    this.#port = Number(new URL(url).port);
    return url;
  }

  /** As a service manager stops it. Trainings go on. */
  async stop() {
    const child = this.#child;
    if (!runs(child)) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    const killed = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
    await exited.finally(() => clearTimeout(killed));
  }

  /** Ends the trainings too and leaves nothing behind. */
  async clear() {
    try {
      if (this.url && runs(this.#child)) {
        const ask = (path, method = 'GET') =>
          fetch(`${this.url}/api/v1/${path}`, { method, signal: AbortSignal.timeout(ANSWER) });
        // One that asks for a sign-in tells of none.
        const { tasks = [] } = await (await ask('tasks?limit=100')).json();
        for (const { task_id } of tasks) await ask(`tasks/${task_id}/cancel`, 'POST');
      }
    } finally {
      try {
        await this.stop();
      } finally {
        await rm(this.home, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
      }
    }
  }
}

/** Whoever was ended by a signal has no exit code. */
function runs(child) {
  return Boolean(child) && child.exitCode === null && child.signalCode === null;
}

/** Where it listens; null if it ends, or does not say so in time. */
async function firstUrl(child) {
  const lines = createInterface({ input: child.stdout });
  const late = setTimeout(() => lines.close(), PATIENCE);
  try {
    for await (const line of lines) {
      const url = READY.exec(line)?.[1];
      if (url) return url;
    }
    return null;
  } finally {
    clearTimeout(late);
    // What it says later must not fill the pipe.
    child.stdout.resume();
  }
}
