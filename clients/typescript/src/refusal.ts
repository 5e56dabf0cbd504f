/**
 * The one error that the package throws for what the service or the connection refused. Its `code` is one of the table in docs/protocol.md,
 * or one of the package's own.
 */

import type { ErrorData } from "./protocol.js";

/** `connection_lost`: no answer came, so nobody knows if it was done. `signed_out`: nobody is logged in. */
export type OwnCode = "connection_lost" | "no_answer" | "closed" | "token_unavailable" | "signed_out";

export type RefusalCode = ErrorData["code"] | OwnCode;

export class Refusal extends Error {
  /** Also true for those of another copy of the package, as a page has that bundles its entries one by one. */
  static override [Symbol.hasInstance](error: unknown): boolean {
    return (error as Error | undefined)?.name === "Refusal";
  }

  readonly code: RefusalCode;
  readonly retryAfterMs: number | undefined;

  constructor(code: RefusalCode, message: string, retryAfterMs?: number) {
    super(message);
    this.name = "Refusal";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}
