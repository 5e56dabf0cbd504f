/**
 * One WebSocket from its opening to its end: frames out, frames in, answers matched to questions by their `id`, and a watch over silence. Browsers
 * show no pings to a script, so it asks with a frame when nothing has come for a while. Times are those of the monotonic clock, which nobody sets;
 * the time of day only makes it ask. It knows nothing of what the frames say.
 */

import type { End } from "./comeback.js";
import type { ErrorData, Frame } from "./protocol.js";
import { Refusal } from "./refusal.js";

/** The part of a WebSocket that is used; that of browsers, of Node 22 and of the package `ws` have it. */
export interface WebSocketLike {
  readonly readyState: number;
  send(data: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(type: "close", listener: (event: { code: number; reason: string }) => void): void;
  addEventListener(type: "error" | "open", listener: (event: unknown) => void): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** Silence after which it asks. */
const ASK_MS = 30_000;
/** Time from the opening to `ready`, and from that question to whatever comes. */
const WAIT_MS = 15_000;
/** Time for an answer. Sends may wait for the rate of their user meanwhile. */
const ANSWER_MS = 90_000;
const LOOK_MS = 5_000;

interface Question {
  resolve(data: unknown): void;
  reject(error: Refusal): void;
  askedAt: number;
}

export class Socket {
  /** Resolves once, when the connection has ended. */
  readonly ended: Promise<End>;
  readonly #socket: WebSocketLike;
  readonly #hear: (frame: Frame) => void;
  readonly #questions = new Map<string, Question>();
  readonly #watch: ReturnType<typeof setInterval>;
  #finish!: (end: End) => void;
  /** The last frame on both clocks: the monotonic one may stand still while the machine sleeps. */
  #heardAt = 0;
  #heardOnDay = 0;
  /** It waits since then: for `ready`, or for anything after it has asked. */
  #waitsSince: number | undefined = performance.now();
  #isReady = false;
  #isOver = false;
  #lastId = 0;
  #error: ErrorData | undefined;
  #reconnectAfterMs: number | undefined;

  constructor(socket: WebSocketLike, hear: (frame: Frame) => void) {
    this.#socket = socket;
    this.#hear = hear;
    this.ended = new Promise((resolve) => (this.#finish = resolve));
    socket.addEventListener("message", (event) => this.#take(event.data));
    socket.addEventListener("close", (event) => this.#end(event.code, event.reason));
    socket.addEventListener("error", () => undefined);
    this.#watch = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Sends a frame that wants no answer. After the end it does nothing. */
  tell(event: string, data: object): void {
    if (!this.#isOver) this.#socket.send(JSON.stringify({ event, data }));
  }

  /** Sends a frame and resolves with the data of its answer. Rejects with `Refusal`: what the service refused, or `connection_lost`. */
  ask(event: string, data: object): Promise<unknown> {
    if (this.#isOver) return Promise.reject(lost());
    const id = `q${++this.#lastId}`;
    return new Promise((resolve, reject) => {
      this.#questions.set(id, { resolve, reject, askedAt: performance.now() });
      this.#socket.send(JSON.stringify({ event, id, data }));
    });
  }

  /** Ends it from this side at once. What comes afterwards is not heard. */
  drop(code: number, reason: string): void {
    try {
      this.#socket.close(code === 1006 ? 1000 : code);
    } catch {
      // A socket that is not open yet may refuse to close.
    }
    this.#end(code, reason);
  }

  /** Asks whether the connection lives, for a page that was asleep. */
  probe(): void {
    if (!this.#isReady) return;
    this.#waitsSince ??= performance.now();
    this.tell("ping", {});
  }

  #take(data: unknown): void {
    if (this.#isOver || typeof data !== "string") return;
    [this.#heardAt, this.#heardOnDay] = [performance.now(), Date.now()];
    const frame = JSON.parse(data) as Frame;
    if (frame.event === "ready") this.#isReady = true;
    if (this.#isReady) this.#waitsSince = undefined;
    if (frame.event === "server:draining") this.#reconnectAfterMs = (frame.data as { reconnectAfterMs: number }).reconnectAfterMs;
    const question = frame.id === undefined ? undefined : this.#questions.get(String(frame.id));
    if (question) this.#answer(String(frame.id), question, frame);
    else if (frame.event === "error") this.#error = frame.data as ErrorData;
    else this.#hear(frame);
  }

  #answer(id: string, question: Question, frame: Frame): void {
    this.#questions.delete(id);
    if (frame.event === "error") question.reject(new Refused(frame.data as ErrorData));
    else question.resolve(frame.data);
  }

  #look(): void {
    const now = performance.now();
    const oldest = this.#questions.values().next().value;
    if (oldest && now - oldest.askedAt > ANSWER_MS) this.drop(1006, "no_answer");
    else if (this.#waitsSince === undefined) {
      if (Math.max(now - this.#heardAt, Date.now() - this.#heardOnDay) > ASK_MS) this.probe();
    } else if (now - this.#waitsSince > WAIT_MS) this.drop(1006, this.#isReady ? "silent" : "not_ready");
  }

  #end(code: number, reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearInterval(this.#watch);
    for (const question of this.#questions.values()) question.reject(lost());
    this.#questions.clear();
    // The close names the code of the error that it is for. An earlier error was about a frame.
    const error = reason === "" || reason === this.#error?.code ? this.#error : undefined;
    const { retryAfterMs } = error ?? {};
    this.#finish({ code, reason: reason || (error?.code ?? "lost"), retryAfterMs, reconnectAfterMs: this.#reconnectAfterMs });
  }
}

/** A refusal with everything that the frame said. */
export class Refused extends Refusal {
  readonly behind: string | undefined;

  constructor(data: ErrorData) {
    super(data.code, data.message, data.retryAfterMs);
    this.behind = data.behind;
  }
}

/** Of a question without a connection, and of one whose answer did not come before its end. */
export function lost(): Refusal {
  return new Refusal("connection_lost", "there is no connection");
}
