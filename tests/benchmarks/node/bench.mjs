// Plays piscina or tinypool: a line of JSON in is one round, a line out its figures (in seconds).
// The rounds are those of rounds.py. Both pools run with their defaults, but for the thread count.

import { createInterface } from 'node:readline';

const MARK = '\x1e';
const key = process.argv[2];
const filename = new URL('./worker.mjs', import.meta.url).href;
const say = (message) => process.stdout.write(MARK + JSON.stringify(message) + '\n');
const now = () => performance.now() / 1000;

let Pool;
try {
  Pool = key === 'piscina' ? (await import('piscina')).Piscina : (await import('tinypool')).default;
} catch (error) {
  say({ error: String(error.message).split('\n')[0] });
  process.exit(0);
}

const open = (workers) =>
  new Pool({ filename, minThreads: workers, maxThreads: workers, idleTimeout: 600_000 });

let warm;
async function warmPool(workers) {
  warm ??= open(workers);
  await Promise.all(Array.from({ length: workers * 2 }, () => warm.run(2, { name: 'pause' })));
  return warm;
}

function spread(samples) {
  samples.sort((a, b) => a - b);
  const last = samples.length - 1;
  return {
    p50: samples[Math.floor(last / 2)],
    p99: samples[Math.ceil(last * 0.99)],
    max: samples[last],
  };
}

const rounds = {
  async first({ workers }) {
    const start = now();
    const pool = open(workers);
    await pool.run(null, { name: 'nothing' });
    const took = now() - start;
    await pool.destroy();
    return { took };
  },

  async round_trip({ workers, calls }) {
    const pool = await warmPool(workers);
    const options = { name: 'nothing' };
    for (let turn = 0; turn < 20; turn++) await pool.run(null, options);
    const samples = [];
    for (let turn = 0; turn < calls; turn++) {
      const start = now();
      await pool.run(null, options);
      samples.push(now() - start);
    }
    return spread(samples);
  },

  async throughput({ workers, seconds, in_flight }) {
    const pool = await warmPool(workers);
    const options = { name: 'nothing' };
    let begin, end, done;
    const keepOneInFlight = async () => {
      while (now() < end) {
        await pool.run(null, options);
        done += 1;
      }
    };
    for (const length of [seconds / 5, seconds]) {
      begin = now();
      end = begin + length;
      done = 0;
      await Promise.all(Array.from({ length: in_flight }, keepOneInFlight));
    }
    return { rate: done / (now() - begin) };
  },

  async payload({ workers, size, calls }) {
    const pool = await warmPool(workers);
    const data = [1, 2, 3].map((byte) => new Uint8Array(size).fill(byte));
    const samples = [];
    for (let turn = 0; turn <= calls; turn++) {
      const item = data[turn % data.length];
      const start = now();
      const result = await pool.run(item, { name: 'same' });
      samples.push(now() - start);
      if (result.length !== size || result[0] !== item[0]) throw new Error('not what was sent');
    }
    return spread(samples.slice(1));
  },
};

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    say({ figures: await rounds[request.round](request.params) });
  } catch (error) {
    say({ error: String(error.message ?? error).split('\n')[0] });
  }
}
await warm?.destroy();
process.exit(0);
