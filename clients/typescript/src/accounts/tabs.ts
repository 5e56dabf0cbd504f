/**
 * The tabs of a store have in common: one lock, under which they use and change the tokens, marks on tokens that one of them has used, and a channel.
 * A tab that has the lock may still read an old state of what another one wrote: browsers keep a copy of `localStorage` for each process, and bring it up to
 * date a moment later. Locks are never old, so a mark is a lock that its tab holds for a time.
 */

import { platformChannel, platformLocks, type Channel, type Locks } from "../locks.js";
import { Refusal } from "../refusal.js";
import type { SignOutReason } from "./login.js";

/** Wait for the lock. The tab that has it waits for one answer of the service. */
const LOCK_MS = 60_000;
/** Wait for a mark that is free. */
const MARK_MS = 500;
/** Time after which no tab reads an old state any more. */
const STALE_MS = 60_000;

/** A message from one tab to the others. */
export interface Told {
  /** The tokens that are stored now, or those that ended. */
  id: string;
  ended?: SignOutReason;
}

export class Tabs {
  isClosed = false;
  readonly #name: string;
  readonly #locks: Locks;
  readonly #channel: Channel;

  constructor(store: string, locks: Locks | undefined, channel: ((name: string) => Channel) | undefined, hear: (told: Told) => void) {
    this.#name = `restante:login:${store}`;
    this.#locks = locks ?? platformLocks();
    this.#channel = (channel ?? platformChannel)(this.#name);
    this.#channel.addEventListener("message", ({ data }) => hear(data as Told));
  }

  /** Runs it while no other tab, and nothing else of this one, is at it. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    let done: { result: T } | undefined;
    const isHad = await this.#request(this.#name, LOCK_MS, async () => {
      done = { result: await work() };
    });
    if (!isHad || !done) throw new Refusal("no_answer", "another tab has had the tokens for too long");
    return (done as { result: T }).result;
  }

  /**
   * Marks tokens as used, for this tab alone. Call the result with `true` when they were: then the mark stays until every tab reads what came of it. Nothing
   * where another tab has marked them.
   */
  async mark(id: string): Promise<((isUsed: boolean) => void) | undefined> {
    return new Promise((resolve, reject) => {
      const held = (): Promise<void> =>
        new Promise((release) =>
          resolve((isUsed) => {
            if (!isUsed) return release();
            const timer = setTimeout(release, STALE_MS);
            // In Node it would keep the program from ending.
            (timer as unknown as { unref?: () => void }).unref?.();
          }),
        );
      this.#request(`${this.#name}:${id}`, MARK_MS, held).then((isHad) => isHad || resolve(undefined), reject);
    });
  }

  tell(told: Told): void {
    if (!this.isClosed) this.#channel.postMessage(told);
  }

  close(): void {
    this.isClosed = true;
    this.#channel.close();
  }

  /** Resolves with whether the lock could be had in time, and then after the work. */
  async #request(name: string, boundMs: number, work: () => Promise<void>): Promise<boolean> {
    const bound = new AbortController();
    const late = new Promise<boolean>((resolve) => bound.signal.addEventListener("abort", () => resolve(false)));
    const timer = setTimeout(() => bound.abort(), boundMs);
    let isHad = false;
    const working = async (): Promise<void> => {
      clearTimeout(timer);
      isHad = true;
      await work();
    };
    const asked = this.#locks.request(name, { signal: bound.signal }, working).then(
      () => isHad,
      (error: unknown) => {
        if (!isHad && bound.signal.aborted) return false;
        throw error;
      },
    );
    return Promise.race([asked, late]).finally(() => clearTimeout(timer));
  }
}
