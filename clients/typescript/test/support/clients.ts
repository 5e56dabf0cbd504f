/** Clients for tests: with the WebSocket of the package `ws`, a token that is made when it is wanted, and a name that is used once. */

import { after } from "node:test";
import { WebSocket } from "ws";
import { connect, type Client, type ClientOptions, type EventMap, type WebSocketConstructor } from "../../src/index.js";
import { Service } from "./service.js";
import { until } from "./signals.js";

/** That of the package `ws`, or with SOCKET=native that of Node 22. */
export const Socket = (process.env.SOCKET === "native" ? globalThis.WebSocket : WebSocket) as unknown as WebSocketConstructor;

const clients: Client<any>[] = [];
// A client that a failed test has left open would keep its file from ending.
after(async () => {
  await Promise.all(clients.map((one) => one.close()));
  await Promise.all(Service.all.map((one) => one.remove()));
});

let last = 0;

/** A user of its own for each test. */
export function user(name: string): string {
  return `${name}-${++last}`;
}

export function client<Events = EventMap>(service: Service, userId: string, options: Partial<ClientOptions<Events>> = {}): Client<Events> {
  const one = connect<Events>({ url: service.url, token: async () => service.token(userId), WebSocket: Socket, ...options });
  clients.push(one);
  return one;
}

export function isOpen(one: Client<any>): Promise<void> {
  return until("an open connection", one.state, () => one.state.value.name === "open");
}

/** Resolves when the connection has ended since the call, and is open again. */
export async function comesBack(one: Client<any>): Promise<void> {
  await until("the end of a connection", one.state, () => one.state.value.name !== "open");
  await isOpen(one);
}

/** A socket that a test can cut, and whose frames it sees. Frames that `passes` refuses do not leave; what comes is heard as `changed` makes it. */
export function spied(passes: (text: string) => boolean = () => true, changed: (text: string) => string = (text) => text): { Constructor: WebSocketConstructor; sockets: WebSocket[]; heard: string[]; said: string[]; urls: string[] } {
  const spy = { sockets: [] as WebSocket[], heard: [] as string[], said: [] as string[], urls: [] as string[] };
  class Spied extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      spy.sockets.push(this);
      spy.urls.push(url);
      this.addEventListener("message", ({ data }: { data: unknown }) => spy.heard.push(String(data)));
    }
    override addEventListener(type: any, listener: any): void {
      super.addEventListener(type, type === "message" ? ((event: any) => listener({ data: changed(String(event.data)) })) : listener);
    }
    override send(data: any): void {
      spy.said.push(String(data));
      if (passes(String(data))) super.send(data);
    }
  }
  return { Constructor: Spied as unknown as WebSocketConstructor, ...spy };
}
