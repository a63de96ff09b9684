// The rounds of ports.py and workers.py with worker_threads alone: no pool, no promise for each
// message, which is how Node is fastest.

import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';

import { now, spread } from './measure.mjs';

const started = (file) => new Worker(new URL(`./${file}`, import.meta.url));

// Begins, then hands each message to `onMessage`; resolves with what that passes to `finish`.
function conversation(worker, begin, onMessage) {
  return new Promise((resolve, reject) => {
    const listener = (message) => onMessage(message, finish, reject);
    const finish = (value) => {
      worker.off('message', listener).off('error', reject);
      resolve(value);
    };
    worker.on('error', reject).on('message', listener);
    begin();
  });
}

// Posts what `make` makes when the answer to the one before has come; how long each took.
function oneByOne(worker, calls, make, isRight) {
  const samples = [];
  let start;
  const post = () => {
    const [message, transfer] = make();
    start = now();
    worker.postMessage(message, transfer);
  };
  return conversation(worker, post, (answer, finish, reject) => {
    samples.push(now() - start);
    if (!isRight(answer)) reject(new Error('the answer is not what was sent'));
    else if (samples.length < calls) post();
    else finish(samples);
  });
}

// As memory.py has it; a program with threads only is one process.
const proportional = () =>
  Number(/^Pss: *(\d+) kB/m.exec(readFileSync('/proc/self/smaps_rollup', 'ascii'))[1]) * 1024;

const answered = (worker) =>
  oneByOne(worker, 1, () => ['hello'], (answer) => answer === 'hello');

const rounds = {
  async port_echo({ calls, message }) {
    const worker = started('echo.mjs');
    const samples = await oneByOne(worker, calls + 20, () => [message], (it) => it === message);
    await worker.terminate();
    return spread(samples.slice(20));
  },

  async port_rate({ in_flight, seconds, message }) {
    const worker = started('echo.mjs');
    await answered(worker);
    let rate;
    for (const length of [seconds / 5, seconds]) {
      let begin, took;
      let done = 0;
      let left = in_flight;
      const fill = () => {
        begin = now();
        for (let number = 0; number < in_flight; number++) worker.postMessage(message);
      };
      rate = await conversation(worker, fill, (_, finish) => {
        if (took === undefined) {
          done += 1;
          const passed = now() - begin;
          if (passed < length) return worker.postMessage(message);
          took = passed;
        }
        if (--left === 0) finish(done / took);
      });
    }
    await worker.terminate();
    return { rate };
  },

  async port_move({ size, calls }) {
    const worker = started('size.mjs');
    let byte = 0;
    const made = [];
    const make = () => {
      const start = now();
      const data = new Uint8Array(size).fill((byte = (byte % 3) + 1));
      made.push(now() - start);
      return [data.buffer, [data.buffer]];
    };
    const samples = await oneByOne(worker, calls + 2, make, (answer) => answer === size);
    await worker.terminate();
    return { ...spread(samples.slice(2)), made: spread(made.slice(2)).p50 };
  },

  async worker_start({ rest_ms, warm_up, starts }) {
    const samples = [];
    for (let turn = 0; turn < warm_up + starts; turn++) {
      if (rest_ms) await new Promise((done) => setTimeout(done, rest_ms));
      const begin = now();
      const worker = started('hello.mjs');
      await conversation(worker, () => {}, (_, finish) => finish());
      samples.push(now() - begin);
      await worker.terminate();
    }
    return spread(samples.slice(warm_up));
  },

  async worker_memory({ workers }) {
    const open = [];
    const idle = async (count) => {
      while (open.length < count) {
        open.push(started('echo.mjs'));
        await answered(open.at(-1));
      }
      await new Promise((done) => setTimeout(done, 200));
      return proportional();
    };
    const before = await idle(1);
    const grown = (await idle(1 + workers)) - before;
    for (const worker of open) await worker.terminate();
    return { each: grown / workers };
  },
};

export const load = async () => ({ rounds, close: () => {} });
