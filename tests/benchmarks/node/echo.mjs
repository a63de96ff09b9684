// What a worker of threads.mjs runs: the counterpart of work.echo.

import { parentPort } from 'node:worker_threads';

parentPort.on('message', (message) => parentPort.postMessage(message));
