// The rounds of rounds.py with piscina or tinypool. Both run with their defaults, but for the thread
// count.

import { now, spread } from './measure.mjs';

const filename = new URL('./worker.mjs', import.meta.url).href;

export async function load(key) {
  const Pool =
    key === 'piscina' ? (await import('piscina')).Piscina : (await import('tinypool')).default;
  return roundsOf(Pool);
}

function roundsOf(Pool) {
  const open = (workers) =>
    new Pool({ filename, minThreads: workers, maxThreads: workers, idleTimeout: 600_000 });

  let warm;
  async function warmPool(workers) {
    warm ??= open(workers);
    await Promise.all(Array.from({ length: workers * 2 }, () => warm.run(2, { name: 'pause' })));
    return warm;
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

  return { rounds, close: () => warm?.destroy() };
}
