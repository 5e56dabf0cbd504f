/**
 * Requests over HTTP: one at a time to its answer, within a bound. An answer that is a refusal of the service, or none at all, is a `Refusal`.
 * No error of it says anything of the body or the token of a request, and none follows a redirect with them.
 */

import type { ErrorData } from "./protocol.js";
import { Refusal } from "./refusal.js";

/** The service answers within 30 s. One that is given up sooner may have been done all the same. */
const ANSWER_MS = 35_000;
/** Refusals of the token and not of the request. */
const TOKEN_REFUSED: ReadonlySet<string> = new Set(["not_authenticated", "token_expired", "token_revoked"]);

/** The part of `fetch` that is used. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** A request but for its token. */
export interface HttpRequest {
  method: string;
  /** With the leading slash. */
  path: string;
  body?: object;
  /** It is sent although the page ends. */
  keepalive?: boolean;
}

export class Http {
  readonly #base: string;
  readonly #fetch: Fetch | undefined;

  /** `url` is that of the service, also `wss://…`. */
  constructor(url: string, fetch?: Fetch) {
    this.#base = new URL(url.replace(/^ws/, "http").replace(/\/?$/, "/")).href;
    this.#fetch = fetch;
  }

  /** Resolves with the body of the answer. Rejects with `Refusal`; repeats nothing. */
  async ask(request: HttpRequest, token?: string): Promise<unknown> {
    const bound = new AbortController();
    const timer = setTimeout(() => bound.abort(), ANSWER_MS);
    try {
      const fetch = this.#fetch ?? globalThis.fetch;
      const answer = await fetch(this.#base + request.path.slice(1), { ...init(request, token), signal: bound.signal });
      return bodyOf(answer, await answer.text());
    } catch (error) {
      if (error instanceof Refusal) throw error;
      throw bound.signal.aborted ? new Refusal("no_answer", `no answer within ${ANSWER_MS} ms`) : lost(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Asks with a token of a source. Where it is refused it is said to the source, and the request is made once more with another one. */
  async askAs(source: (refused?: string) => Promise<string>, request: HttpRequest): Promise<unknown> {
    const token = await source();
    try {
      return await this.ask(request, token);
    } catch (error) {
      if (!(error instanceof Refusal) || !TOKEN_REFUSED.has(error.code)) throw error;
      const other = await source(token);
      if (other === token) throw error;
      return this.ask(request, other);
    }
  }
}

function init({ method, body, keepalive }: HttpRequest, token: string | undefined): RequestInit {
  return {
    method,
    headers: { ...(body && { "content-type": "application/json" }), ...(token !== undefined && { authorization: `Bearer ${token}` }) },
    ...(body && { body: JSON.stringify(body) }),
    ...(keepalive && { keepalive }),
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    referrerPolicy: "no-referrer",
  };
}

function bodyOf(answer: Response, text: string): unknown {
  const body = parsed(text) as { error?: ErrorData } | undefined;
  if (answer.ok && body !== undefined) return body;
  if (typeof body?.error?.code === "string") throw refusal(body.error);
  // A proxy, or a page that is no service at all.
  const seconds = Number(answer.headers.get("retry-after") ?? Number.NaN);
  throw new Refusal("no_answer", `the answer ${answer.status} is none of the service`, Number.isFinite(seconds) ? seconds * 1000 : undefined);
}

function refusal({ code, message, retryAfterMs }: ErrorData): Refusal {
  return new Refusal(code, message, retryAfterMs);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Of the cause nothing is told but a code such as `ECONNREFUSED`: its words may quote the request. */
function lost(error: unknown): Refusal {
  const code = (error as { cause?: { code?: unknown } } | undefined)?.cause?.code;
  return new Refusal("connection_lost", `no answer came${typeof code === "string" && /^[A-Z_]+$/.test(code) ? `: ${code}` : ""}`);
}
