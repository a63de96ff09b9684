// The counterpart of work.hello.

import { parentPort } from 'node:worker_threads';

parentPort.postMessage('hello');
