#!/usr/bin/env node
// Stands in for a training on GPUs that are not there: holds memory of the device that it was granted and prints
// figures as trainers do.
//
//   stand-in.mjs HOLD BYTES STEPS FIRST_STEP

import { spawn } from 'node:child_process';

const [hold, bytes, steps, first] = process.argv.slice(2);
const device = process.env.CUDA_VISIBLE_DEVICES;
// It holds the memory until its standard input ends, with this process.
spawn(hold, ['--device', device, '--bytes', bytes], { stdio: ['pipe', 'ignore', 'inherit'] }).on('exit', (code) =>
  process.exit(code ?? 1),
);

const EPOCHS = 3;
const total = Number(steps);
let step = Number(first);
setInterval(() => {
  step += 1;
  const done = step / total;
  const loss = 0.62 + 1.6 * Math.exp(-4 * done) + 0.03 * Math.sin(step);
  const rate = 5e-5 * (1 - done);
  const figures = {
    ...{ loss: Number(loss.toFixed(4)), learning_rate: rate, epoch: Number((EPOCHS * done).toFixed(2)) },
    ...{ step, max_steps: total, total_epochs: EPOCHS },
  };
  console.log(JSON.stringify(figures));
  if (step >= total) process.exit(0);
}, 1000);
