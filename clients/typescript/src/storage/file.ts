/**
 * Storage in one file, for Node. The file is a log: each line has the writes of one transaction as JSON, and is synced before the transaction ends.
 * A line that a crash cut off is left out at the next start. The log is written anew at each start, and when most of its writes are outdated.
 * One process has the file at a time; a file `<path>.lock` with its number keeps others away.
 */

import { mkdir, open, readFile, rename, rm, writeFile, type FileHandle } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { MemoryStorage, type Write } from "./memory.js";

/** Outdated writes that a log may have before it is written anew, at least. */
const OUTDATED_MIN = 10_000;

/** Locks of this process. */
const held = new Set<string>();

/** Opens the file, makes it where it is missing. Rejects where another process that lives has it. */
export async function fileStorage(path: string): Promise<FileStorage> {
  const absolute = resolve(path);
  await mkdir(dirname(absolute), { recursive: true });
  await lock(`${absolute}.lock`);
  const storage = new FileStorage(absolute);
  try {
    await storage.load();
  } catch (error) {
    await storage.close();
    throw error;
  }
  return storage;
}

/** Writes that are not in the file yet; none for a transaction that has only read. */
interface Waiting {
  writes: Write[];
  resolve(): void;
  reject(error: unknown): void;
}

export class FileStorage extends MemoryStorage {
  readonly #path: string;
  #log: FileHandle | undefined;
  #waiting: Waiting[] = [];
  #isFlushing = false;
  /** Writes in the log. */
  #writes = 0;
  /** A write failed, so the file is behind the memory for good. It is what the next start reads. */
  #failure: unknown;

  constructor(path: string) {
    super(path);
    this.#path = path;
  }

  /** Reads the log, and writes it anew. Called once. */
  async load(): Promise<void> {
    for (const line of (await readIfThere(this.#path)).split("\n")) {
      const writes = parsed(line);
      if (!writes) break;
      for (const write of writes) this.apply(write);
    }
    await this.#rewrite();
  }

  /** Closes the file and gives it up for other processes. */
  async close(): Promise<void> {
    await this.transaction(async () => undefined).catch(() => undefined);
    await this.#log?.close();
    this.#log = undefined;
    this.#failure ??= new Error(`${this.#path} is closed`);
    await rm(`${this.#path}.lock`, { force: true });
    held.delete(`${this.#path}.lock`);
  }

  protected override persist(writes: Write[]): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ writes, resolve, reject });
      if (!this.#isFlushing) void this.#flush();
    });
  }

  /** All that wait share one sync. */
  async #flush(): Promise<void> {
    this.#isFlushing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        if (this.#failure !== undefined) throw this.#failure;
        await this.#append(batch.map((one) => one.writes).filter((writes) => writes.length > 0));
        for (const one of batch) one.resolve();
      } catch (error) {
        this.#failure = error;
        for (const one of batch) one.reject(error);
      }
    }
    this.#isFlushing = false;
  }

  async #append(transactions: Write[][]): Promise<void> {
    if (transactions.length === 0) return;
    await this.#log!.appendFile(transactions.map((writes) => `${JSON.stringify(writes)}\n`).join(""));
    await this.#log!.datasync();
    this.#writes += transactions.reduce((sum, writes) => sum + writes.length, 0);
    const live = [...this.tables.values()].reduce((sum, rows) => sum + rows.size, 0);
    if (this.#writes > OUTDATED_MIN + 4 * live) await this.#rewrite();
  }

  /** The new log takes the place of the old one in one step, so a crash finds either. */
  async #rewrite(): Promise<void> {
    const lines = [...this.tables].map(([table, rows]) => JSON.stringify([...rows].map(([key, value]) => [table, key, value])));
    const next = await open(`${this.#path}.new`, "w");
    try {
      await next.writeFile(lines.map((line) => `${line}\n`).join(""));
      await next.datasync();
    } finally {
      await next.close();
    }
    await rename(`${this.#path}.new`, this.#path);
    await this.#log?.close();
    this.#log = await open(this.#path, "a");
    this.#writes = 0;
  }
}

function parsed(line: string): Write[] | undefined {
  try {
    return JSON.parse(line) as Write[];
  } catch {
    return undefined;
  }
}

async function readIfThere(path: string): Promise<string> {
  return readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
}

/** Takes the lock of this process and that of the machine. */
async function lock(path: string): Promise<void> {
  if (held.has(path)) throw new Error(`${path}: this process has this file open already`);
  held.add(path);
  try {
    await lockFile(path);
  } catch (error) {
    held.delete(path);
    throw error;
  }
}

/** Also takes it from a process that is gone. */
async function lockFile(path: string): Promise<void> {
  try {
    await writeFile(path, String(process.pid), { flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const holder = Number(await readFile(path, "utf8"));
    if (isAlive(holder)) throw new Error(`${path}: process ${holder} has this file; end it, or remove the lock if it is another program's process`);
    await writeFile(path, String(process.pid));
  }
}

function isAlive(pid: number): boolean {
  // In a container a process has often the number of the one before it.
  if (!pid || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
