// What Node's workers run: the counterpart of work.py.

export const nothing = () => {};
export const same = (value) => value;
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
