/**
 * Keeps clients that share an outbox apart, and tells them of one another: a lock that one of them holds, and a channel. Browsers have both
 * (Web Locks, BroadcastChannel). Where there is no Web Locks a lock of this program stands in: it holds within one process.
 */

/** The part of `navigator.locks` that is used. `signal` ends the wait for the lock. */
export interface Locks {
  request(name: string, options: { signal: AbortSignal }, work: () => Promise<void>): Promise<unknown>;
}

/** The part of `BroadcastChannel` that is used. */
export interface Channel {
  postMessage(message: unknown): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  close(): void;
}

const tails = new Map<string, Promise<void>>();

const processLocks: Locks = {
  async request(name, { signal }, work) {
    const before = tails.get(name) ?? Promise.resolve();
    const mine = before.then(async () => {
      if (!signal.aborted) await work();
    });
    const tail = mine.catch(() => undefined);
    tails.set(name, tail);
    void tail.then(() => tails.get(name) === tail && tails.delete(name));
    return mine;
  },
};

export function platformLocks(): Locks {
  return globalThis.navigator?.locks ? (navigator.locks as unknown as Locks) : processLocks;
}

export function platformChannel(name: string): Channel {
  const channel = new BroadcastChannel(name);
  // In Node an open channel would keep the program from ending.
  (channel as unknown as { unref?: () => void }).unref?.();
  return channel as unknown as Channel;
}
