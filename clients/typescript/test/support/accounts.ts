/**
 * A stand-in for the accounts of a service, as a `fetch` whose answers a test can lose, refuse or hold, with clocks that it moves. Refresh tokens rotate,
 * and one that comes twice ends its login, as docs/protocol.md has it. The tests with the real service are in accounts.test.ts.
 */

import type { Clock, Fetch } from "../../src/accounts/index.js";
import { Log, until } from "./signals.js";

/** The fate of one request: done and answered; done, and its answer lost; not done; or answered so without being done. */
export type Fate = "answer" | "lose" | "fail" | Response;

export interface Asked {
  path: string;
  body: Record<string, string>;
  authorization: string | null;
}

interface FakeLogin {
  userId: string;
  refreshToken: string;
  previous: string | undefined;
}

/** Clocks that stand until a test moves them. */
export class FakeClock implements Clock {
  now = 5_000;
  day = 1_800_000_000_000;

  monotonic(): number {
    return this.now;
  }

  wall(): number {
    return this.day;
  }

  pass(ms: number): void {
    this.now += ms;
    this.day += ms;
  }
}

export function refusalOf(status: number, code: string, retryAfterMs?: number): Response {
  return Response.json({ error: { code, message: `it is ${code}`, retryAfterMs } }, { status });
}

export class FakeAccounts {
  readonly asked = new Log<Asked>();
  /** Fates of the next requests, in their order. Behind them all are answered. */
  fates: Fate[] = [];
  /** Requests wait for it before they are done. */
  gate: Promise<void> = Promise.resolve();

  /** The token before counts once more. */
  hasGrace = false;
  /** Everything that was given out, and must be found nowhere. */
  readonly secrets: string[] = [];
  readonly #mint: (userId: string) => string;
  #logins: FakeLogin[] = [];
  #made = 0;

  constructor(mint: (userId: string) => string = mintedFor(900)) {
    this.#mint = mint;
  }

  /** Holds back the next request to a path. `begun` resolves when it is there; those behind it are not held. */
  hold(path: string): { begun: Promise<void>; release: () => void } {
    let release = (): void => undefined;
    this.gate = new Promise((resolve) => (release = resolve));
    const count = this.count(path);
    const begun = until(`a request to ${path}`, this.asked, () => this.count(path) > count).then(() => void (this.gate = Promise.resolve()));
    return { begun, release };
  }

  /** Requests to a path, such as `refresh`. */
  count(path: string): number {
    return this.asked.items.filter((asked) => asked.path === path).length;
  }

  get logins(): number {
    return this.#logins.length;
  }

  readonly fetch: Fetch = async (url, init) => {
    const path = url.split("/v1/accounts")[1]!.slice(1);
    const body = JSON.parse(String(init.body ?? "{}")) as Record<string, string>;
    const authorization = new Headers(init.headers).get("authorization");
    this.asked.add({ path, body, authorization });
    const fate = this.fates.shift() ?? "answer";
    await this.gate;
    if (fate instanceof Response) return fate;
    // An error of a `fetch` of the application may quote anything.
    if (fate === "fail") throw new TypeError(`fetch failed: ${String(init.body)}`);
    const answer = this.#answer(path, body, authorization);
    if (fate === "lose") throw new TypeError(`fetch failed: ${String(init.body)}`);
    return answer;
  };

  #answer(path: string, body: Record<string, string>, authorization: string | null): Response {
    switch (path) {
      case "":
        return Response.json({ userId: body.userId }, { status: 201 });
      case "login":
        return body.password === "right" ? this.#begin(body.userId!) : refusalOf(401, "bad_credentials");
      case "refresh":
        return this.#refresh(body.refreshToken!);
      case "logout":
        this.#logins = this.#logins.filter((login) => login.refreshToken !== body.refreshToken);
        return Response.json({});
      case "logout-everywhere":
        return Response.json({ ended: this.#endAll(userOf(authorization!)) });
      default:
        return body.password === "right" ? Response.json({ ended: 0 }) : refusalOf(401, "bad_credentials");
    }
  }

  #endAll(userId: string): number {
    const before = this.#logins.length;
    this.#logins = this.#logins.filter((login) => login.userId !== userId);
    return before - this.#logins.length;
  }

  #begin(userId: string): Response {
    const login = { userId, refreshToken: this.#next(), previous: undefined };
    this.#logins.push(login);
    return this.#told(login);
  }

  #refresh(refreshToken: string): Response {
    const login = this.#logins.find((one) => one.refreshToken === refreshToken || one.previous === refreshToken);
    if (!login) return refusalOf(401, "login_ended");
    if (login.refreshToken !== refreshToken && !this.hasGrace) {
      this.#logins = this.#logins.filter((one) => one !== login);
      return refusalOf(401, "login_ended");
    }
    Object.assign(login, { previous: refreshToken, refreshToken: this.#next() });
    return this.#told(login);
  }

  #told({ userId, refreshToken }: FakeLogin): Response {
    const accessToken = this.#mint(userId);
    this.secrets.push(accessToken, refreshToken);
    return Response.json({ userId, accessToken, expiresAt: "2026-11-01T12:15:00.000Z", refreshToken, refreshExpiresAt: "2026-12-01T12:00:00.000Z" });
  }

  #next(): string {
    return `refresh-${++this.#made}-${"x".repeat(40)}`;
  }
}

/** Access tokens that differ, and last so many seconds. */
export function mintedFor(seconds: number): (userId: string) => string {
  let made = 0;
  return (sub) => {
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    return `${part({ alg: "none" })}.${part({ sub, jti: String(++made), iat: 1_700_000_000, exp: 1_700_000_000 + seconds })}.signature`;
  };
}

function userOf(authorization: string): string {
  return (JSON.parse(Buffer.from(authorization.split(".")[1]!, "base64url").toString()) as { sub: string }).sub;
}
