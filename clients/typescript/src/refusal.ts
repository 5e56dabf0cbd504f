/**
 * The one error that the package throws for what the service or the connection refused. Its `code` is one of the table in docs/protocol.md,
 * or one of the package's own: `connection_lost`, `no_answer`, `closed`, `token_unavailable`.
 */

import type { ErrorData } from "./protocol.js";

export class Refusal extends Error {
  readonly code: string;
  readonly retryAfterMs: number | undefined;

  constructor(code: string, message: string, retryAfterMs?: number) {
    super(message);
    this.name = "Refusal";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }

  static of(data: ErrorData): Refusal {
    return new Refusal(data.code, data.message, data.retryAfterMs);
  }
}
