/**
 * A stand-in for WebSockets: a test is the service at their other end. It opens a connection, answers what it wants, says nothing, or cuts. For facts
 * about moments that a real service would have to be caught in.
 */

import { after } from "node:test";
import { setImmediate } from "node:timers/promises";
import { connect, type Client, type ClientOptions, type ErrorData, type Frame, type ReadyData, type WebSocketConstructor, type WebSocketLike } from "../../src/index.js";
import { Log, until } from "./signals.js";

type Listener = (event: any) => void;

export class FakeSocket implements WebSocketLike {
  readyState = 0;
  /** The frames of the client. */
  readonly said = new Log<Frame>();
  readonly #listeners = new Map<string, Set<Listener>>();

  addEventListener(type: string, listener: Listener): void {
    const known = this.#listeners.get(type) ?? new Set<Listener>();
    this.#listeners.set(type, known.add(listener));
  }

  send(data: string): void {
    this.said.add(JSON.parse(data) as Frame);
  }

  close(): void {
    this.readyState = 3;
  }

  /** The connection begins. */
  ready(data: Partial<ReadyData> = {}): void {
    const none = { alertLastSeq: 0, alertSettledSeq: 0, eventLastSeq: 0, eventSettledSeq: 0, lastSeq: 0, settledSeq: 0, pending: 0, pendingMore: false };
    const serverTime = new Date(Date.now()).toISOString();
    this.readyState = 1;
    this.tell("ready", { ...none, epoch: "e", marksCursor: "m", resumed: false, serverTime, sessionId: "s", userId: "anna", window: 50, ...data });
  }

  tell(event: string, data: object, id?: string | number): void {
    this.#emit("message", { data: JSON.stringify({ event, ...(id !== undefined && { id }), data }) });
  }

  /** Refuses a frame of the client. */
  refuse({ id }: Frame, error: Partial<ErrorData> & { code: string }): void {
    this.tell("error", { message: "refused", ...error }, id);
  }

  /** The service has stored each message that the client has sent and was not answered. */
  storeAll(): void {
    for (const { id, data } of this.said.items.filter(({ event }) => event === "message:send")) {
      const { messageId, chatId } = data as { messageId: string; chatId: string };
      this.tell("message:sent", { messageId, chatId, createdAt: new Date(0).toISOString(), duplicate: false, seq: 1 }, id);
    }
  }

  /** The connection ends. After 1012 a client comes back at once. */
  cut(code: number, reason = ""): void {
    this.readyState = 3;
    this.#emit("close", { code, reason });
  }

  /** Ids of the messages that were sent, in their order. */
  sends(): string[] {
    const sent = this.said.items.filter(({ event }) => event === "message:send");
    return sent.map(({ data }) => (data as { messageId: string }).messageId);
  }

  count(event: string): number {
    return this.said.items.filter((frame) => frame.event === event).length;
  }

  #emit(type: string, event: object): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event);
  }
}

const clients: Client[] = [];
// A client that a failed test has left open would keep its file from ending.
after(() => Promise.all(clients.map((one) => one.close())));

/** The sockets that a client opens, in their order. */
export class FakeSockets {
  readonly opened = new Log<FakeSocket>();
  readonly Constructor: WebSocketConstructor;

  constructor() {
    const { opened } = this;
    this.Constructor = class extends FakeSocket {
      constructor() {
        super();
        opened.add(this);
      }
    };
  }

  /** A client on them. */
  client(options: Partial<ClientOptions> = {}): Client {
    const one = connect({ url: "http://service", token: "a.b.c", WebSocket: this.Constructor, ...options });
    clients.push(one);
    return one;
  }

  /** Resolves with the socket of this number, from 1. */
  async nth(number: number): Promise<FakeSocket> {
    await until(`socket ${number}`, this.opened, () => this.opened.items.length >= number);
    return this.opened.items[number - 1]!;
  }
}

/** Resolves when everything has been done that needs no timer and no answer from outside: for what must not happen. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await setImmediate();
}
