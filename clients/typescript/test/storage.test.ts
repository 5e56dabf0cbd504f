/** The three storages keep the same promises: what a transaction wrote is there as a whole, and what threw has left nothing. */

import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import "fake-indexeddb/auto";
import { indexedDbStorage, memoryStorage, type Storage } from "../src/index.js";
import { fileStorage } from "../src/storage/file.js";
import { temporaryFolder } from "./support/service.js";

const file = (): string => join(temporaryFolder(), "client.log");
const kinds: Record<string, () => Promise<Storage>> = {
  memory: async () => memoryStorage(),
  file: () => fileStorage(file()),
  indexeddb: async () => indexedDbStorage({ name: crypto.randomUUID() }),
};

for (const [kind, make] of Object.entries(kinds)) {
  test(`${kind}: rows come back in the order of their keys, of their table alone`, async () => {
    const storage = await make();
    await storage.transaction(async (tx) => {
      for (const key of ["b", "c", "a"]) await tx.put("one", key, { key });
      await tx.put("ones", "x", 1);
      await tx.delete("one", "c");
    });
    assert.deepEqual(await storage.transaction((tx) => tx.entries("one")), [["a", { key: "a" }], ["b", { key: "b" }]]);
    assert.deepEqual(await storage.transaction((tx) => tx.entries("one", "a")), [["b", { key: "b" }]]);
    assert.equal(await storage.transaction((tx) => tx.get("one", "c")), undefined);
  });

  test(`${kind}: a transaction that throws leaves nothing behind`, async () => {
    const storage = await make();
    const failing = storage.transaction(async (tx) => {
      await tx.put("one", "a", 1);
      throw new Error("no");
    });
    await assert.rejects(failing, /no/);
    assert.deepEqual(await storage.transaction((tx) => tx.entries("one")), []);
  });

  test(`${kind}: transactions at the same time do not see one another`, async () => {
    const storage = await make();
    const add = (): Promise<void> => storage.transaction(async (tx) => tx.put("one", "sum", (((await tx.get("one", "sum")) as number) ?? 0) + 1));
    await Promise.all(Array.from({ length: 20 }, add));
    assert.equal(await storage.transaction((tx) => tx.get("one", "sum")), 20);
  });
}

test("a file has after a reload what it had, without a line that a crash cut off", async () => {
  const path = file();
  const first = await fileStorage(path);
  await first.transaction((tx) => tx.put("one", "a", 1));
  await first.transaction((tx) => tx.put("one", "b", 2));
  await first.close();
  appendFileSync(path, '[["one","c",3],["one","d');
  const second = await fileStorage(path);
  await second.transaction((tx) => tx.put("one", "e", 5));
  await second.close();
  const third = await fileStorage(path);
  assert.deepEqual(await third.transaction((tx) => tx.entries("one")), [["a", 1], ["b", 2], ["e", 5]]);
  await third.close();
});

test("a file that is written over and over stays small", async () => {
  const path = file();
  const storage = await fileStorage(path);
  for (let n = 0; n < 300; n++) {
    await storage.transaction(async (tx) => {
      for (let key = 0; key < 50; key++) await tx.put("one", String(key), n);
    });
  }
  assert.ok(readFileSync(path, "utf8").split("\n").length < 260);
  await storage.close();
});

test("transactions at the same time share a sync, and each is in the file when it resolves", async () => {
  const path = file();
  const storage = await fileStorage(path);
  const put = async (key: string): Promise<void> => {
    await storage.transaction((tx) => tx.put("one", key, 1));
    assert.ok(readFileSync(path, "utf8").includes(`"${key}"`));
  };
  await Promise.all(Array.from({ length: 50 }, (_, n) => put(`key-${n}`)));
  await storage.close();
  await assert.rejects(storage.transaction((tx) => tx.put("one", "late", 1)), /is closed/);
});

test("a file has one process at a time, and that of a process that is gone is free", async () => {
  const path = file();
  // The process that started this one lives.
  writeFileSync(`${path}.lock`, String(process.ppid));
  await assert.rejects(fileStorage(path), /has this file/);
  for (const gone of [999_999_999, process.pid]) {
    writeFileSync(`${path}.lock`, String(gone));
    await (await fileStorage(path)).close();
  }
});

test("two storages over one file in one process are refused", async () => {
  const path = file();
  const one = await fileStorage(path);
  await assert.rejects(fileStorage(path), /has this file open already/);
  await one.close();
  await (await fileStorage(path)).close();
});

test("object stores of the application take part in the transaction of the database", async () => {
  const request = indexedDB.open("app", 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("restante");
    request.result.createObjectStore("notes");
  };
  const database = await new Promise<IDBDatabase>((resolve) => (request.onsuccess = () => resolve(request.result)));
  const storage = indexedDbStorage({ database, stores: ["notes"] });
  await storage.transaction(async (tx) => void (tx.native as IDBTransaction).objectStore("notes").put("hello", 1));
  const failing = storage.transaction(async (tx) => {
    (tx.native as IDBTransaction).objectStore("notes").put("lost", 2);
    throw new Error("no");
  });
  await assert.rejects(failing, /no/);
  const keys = database.transaction("notes").objectStore("notes").getAllKeys();
  assert.deepEqual(await new Promise((resolve) => (keys.onsuccess = () => resolve(keys.result))), [1]);
});

/** A factory of databases. The openings that a test names fail. */
function failing(fails: (opening: number) => Error | undefined): { factory: IDBFactory; opened: IDBDatabase[] } {
  const opened: IDBDatabase[] = [];
  let openings = 0;
  const open = (name: string, version?: number): IDBOpenDBRequest => {
    const error = fails(++openings);
    if (error?.name === "SecurityError") throw error;
    if (error) return refused(error);
    const request = indexedDB.open(name, version);
    request.addEventListener("success", () => opened.push(request.result));
    return request;
  };
  return { factory: { open } as unknown as IDBFactory, opened };
}

function refused(error: Error): IDBOpenDBRequest {
  const request = { error } as unknown as IDBOpenDBRequest;
  queueMicrotask(() => request.onerror!(new Event("error")));
  return request;
}

const put = (storage: Storage, key: string): Promise<void> => storage.transaction((tx) => tx.put("one", key, 1));
const keysOf = async (storage: Storage): Promise<string[]> => (await storage.transaction((tx) => tx.entries("one"))).map(([key]) => key);

test("a database that cannot be opened, at once or later, fails the transactions of that time alone", async () => {
  for (const name of ["UnknownError", "SecurityError"]) {
    const { factory, opened } = failing((opening) => (opening === 1 ? Object.assign(new Error("no disk"), { name }) : undefined));
    const storage = indexedDbStorage({ name: crypto.randomUUID(), factory });
    await Promise.all([assert.rejects(put(storage, "a"), /no disk/), name === "UnknownError" && assert.rejects(put(storage, "b"), /no disk/)]);
    await Promise.all([put(storage, "c"), put(storage, "d")]);
    assert.deepEqual(await keysOf(storage), ["c", "d"]);
    assert.equal(opened.length, 1, "it is opened once for all");
  }
});

test("a database that the browser has closed is opened again", async () => {
  const { factory, opened } = failing(() => undefined);
  const storage = indexedDbStorage({ name: crypto.randomUUID(), factory });
  await put(storage, "a");
  opened[0]!.close();
  opened[0]!.onclose!(new Event("close"));
  await put(storage, "b");
  // Some browsers lose a database and do not say so.
  opened[1]!.close();
  await assert.rejects(put(storage, "lost"), { name: "InvalidStateError" });
  await put(storage, "c");
  assert.deepEqual([await keysOf(storage), opened.length], [["a", "b", "c"], 3]);
});

test("a database is closed for another tab that deletes it, and the next transaction begins with an empty one", async () => {
  const { factory, opened } = failing(() => undefined);
  const storage = indexedDbStorage({ name: crypto.randomUUID(), factory });
  await put(storage, "a");
  const isBlocked = await new Promise((resolve, reject) => {
    const deleting = indexedDB.deleteDatabase(storage.name);
    deleting.onsuccess = () => resolve(false);
    deleting.onblocked = () => resolve(true);
    deleting.onerror = () => reject(deleting.error);
  });
  assert.equal(isBlocked, false);
  await put(storage, "b");
  assert.deepEqual([await keysOf(storage), opened.length], [["b"], 2]);
});

test("a database of the application is not opened in its place where it was closed", async () => {
  const { factory, opened } = failing(() => undefined);
  const own = indexedDbStorage({ name: crypto.randomUUID(), factory });
  await put(own, "a");
  const storage = indexedDbStorage({ database: opened[0]!, factory });
  await put(storage, "b");
  opened[0]!.close();
  for (const key of ["c", "d"]) await assert.rejects(put(storage, key), { name: "InvalidStateError" });
  assert.equal(opened.length, 1);
});

test("a file that cannot be read or locked is free for the next try", async () => {
  const folder = temporaryFolder();
  const path = join(folder, "client.log");
  mkdirSync(path);
  await assert.rejects(fileStorage(path), { code: "EISDIR" });
  rmSync(path, { recursive: true });
  mkdirSync(`${path}.lock`);
  for (let times = 0; times < 2; times++) await assert.rejects(fileStorage(path), { code: "EISDIR" });
  rmSync(`${path}.lock`, { recursive: true });
  const storage = await fileStorage(path);
  await put(storage, "a");
  assert.deepEqual(await keysOf(storage), ["a"]);
  await storage.close();
});
