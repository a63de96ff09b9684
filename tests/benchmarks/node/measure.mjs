// The clock, in seconds, and what is made of its samples: as in rounds.py.

export const now = () => performance.now() / 1000;

export function spread(samples) {
  samples.sort((a, b) => a - b);
  const last = samples.length - 1;
  return {
    p50: samples[Math.floor(last / 2)],
    p99: samples[Math.ceil(last * 0.99)],
    max: samples[last],
  };
}
