// A studio of the test's own: the real binary in a home of its own.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const READY = /^SAGE Studio listening on (http:\/\/\S+)$/;

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
    const said = [];
    child.stderr.on('data', (bytes) => said.push(bytes));
    for await (const line of createInterface({ input: child.stdout })) {
      const url = READY.exec(line)?.[1];
      if (url) {
        this.url = url;
        this.#port = Number(new URL(url).port);
        return url;
      }
    }
    throw new Error(`the studio did not start:\n${Buffer.concat(said)}`);
  }

  /** As a service manager stops it. Trainings go on. */
  async stop() {
    const child = this.#child;
    if (!child || child.exitCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }

  /** Ends the trainings too and leaves nothing behind. */
  async clear() {
    try {
      if (this.#child?.exitCode === null) {
        // One that asks for a sign-in tells of none.
        const { tasks = [] } = await (await fetch(`${this.url}/api/v1/tasks?limit=100`)).json();
        for (const { task_id } of tasks) await fetch(`${this.url}/api/v1/tasks/${task_id}/cancel`, { method: 'POST' });
      }
    } finally {
      await this.stop();
      await rm(this.home, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
    }
  }
}
