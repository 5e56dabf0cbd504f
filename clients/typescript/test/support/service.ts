/**
 * A real service with a database of its own, for one test file, and for the programs in tests/socketio. The program is that of RESTANTE_PROGRAM, or
 * what `cargo build` has made. It can be killed and started again on the same data and port; at the end everything of it is removed.
 */

import { spawn, type ChildProcess } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { once } from "node:events";

const ROOT = fileURLToPath(new URL("../../../../../", import.meta.url));

/** A folder in memory where there is one: the tests wait for the disk at each commit. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "restante-sdk-"));
  // The database server of a service that runs as root has an account of its own.
  chmodSync(folder, 0o755);
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

process.setMaxListeners(100);
// A runner that ends a file must not leave its services behind: the listeners of `exit` stop them.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(1));

export class Service {
  /** Those of this file. */
  static readonly all: Service[] = [];
  url = "";
  readonly folder = temporaryFolder();
  readonly #secret: string;
  readonly #environment: Record<string, string>;
  #process: ChildProcess | undefined;

  /** Nodes that share a database share JWT_SECRET; others have one of their own. */
  constructor(environment: Record<string, string> = {}) {
    this.#secret = environment.JWT_SECRET ?? randomBytes(32).toString("hex");
    this.#environment = environment;
    Service.all.push(this);
  }

  static async start(environment?: Record<string, string>): Promise<Service> {
    const service = new Service(environment);
    await service.start();
    return service;
  }

  /** Starts it, and resolves when it listens. A second start has the port of the first. */
  async start(): Promise<void> {
    const child = spawn(program(), ["serve"], {
      env: {
        ...process.env,
        DATA_DIR: join(this.folder, "data"),
        LISTEN_ADDR: this.url === "" ? "127.0.0.1:0" : new URL(this.url).host,
        JWT_SECRET: this.#secret,
        ...this.#environment,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    process.once("exit", () => child.kill("SIGTERM"));
    this.url = await listening(child);
  }

  /** Kills it as a crash would, and resolves when it is gone. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Stops it as planned, with its connections told to come back. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /** Stops it for good. */
  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  token(user: string, ttlSeconds = 3600, claims: object = {}): string {
    const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const exp = Math.floor(Date.now() / 1000) + ttlSeconds;
    const signed = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded({ sub: user, exp, ...claims })}`;
    return `${signed}.${createHmac("sha256", this.#secret).update(signed).digest("base64url")}`;
  }

  /** Asks over HTTP as a user, and resolves with the body. */
  async http(user: string, method: string, path: string, body?: object): Promise<any> {
    const answer = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${this.token(user, 3600, { scope: "events:write admin" })}`, "content-type": "application/json" },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const json = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(json)}`);
    return json;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, "exit");
  }
}

function program(): string {
  const places = [process.env.RESTANTE_PROGRAM, join(ROOT, "target/release/restante"), join(ROOT, "target/debug/restante")];
  const found = places.find((place) => place !== undefined && existsSync(place));
  if (!found) throw new Error("the tests need the service: run `cargo build` in the repository, or name a program in RESTANTE_PROGRAM");
  return found;
}

/** Resolves with the address that it says. Its output is read on, or its pipe would fill. */
function listening(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let [log, said] = ["", ""];
    child.stderr!.on("data", (text) => (log = (log + String(text)).slice(-4_000)));
    child.stdout!.on("data", (text) => {
      said = (said + String(text)).slice(0, 4_000);
      const url = /listening on (http:\S+)\s/.exec(said)?.[1];
      if (url) resolve(url);
    });
    child.once("error", reject);
    child.once("close", (code, signal) => reject(new Error(`the service did not start (${code ?? signal}):\n${said}${log}`)));
  });
}
