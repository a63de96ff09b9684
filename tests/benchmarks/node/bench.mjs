// Plays one of Node's contenders: a line of JSON in is one round, a line out its figures (in
// seconds and bytes).

import { createInterface } from 'node:readline';

const MARK = '\x1e';
const key = process.argv[2];
const say = (message) => process.stdout.write(MARK + JSON.stringify(message) + '\n');

let rounds, close;
try {
  const file = key === 'worker-threads' ? './threads.mjs' : './pools.mjs';
  ({ rounds, close } = await (await import(file)).load(key));
} catch (error) {
  say({ error: String(error.message).split('\n')[0] });
  process.exit(0);
}

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    say({ figures: await rounds[request.round](request.params) });
  } catch (error) {
    say({ error: String(error.message ?? error).split('\n')[0] });
  }
}
await close();
process.exit(0);
