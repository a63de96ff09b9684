// The counterpart of work.size_of_each.

import { parentPort } from 'node:worker_threads';

parentPort.on('message', (buffer) => {
  const data = new Uint8Array(buffer);
  parentPort.postMessage(data.length + data[0] - data[data.length - 1]);
});
