// The unchanged client of Socket.IO under remote control: commands as lines of JSON on standard input, what happens as lines of JSON on standard
// output. It decides nothing by itself, except that it may call every callback at once.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const callbacks = new Map();
let socket, auth, acks, last = 0;

function heard(event, args) {
  const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
  if (callback) callbacks.set(++last, callback);
  say({ event, args, callback: callback ? last : undefined });
  if (callback && acks) callback({ received: true });
}

const commands = {
  connect({ url, options, token, acksAtOnce }) {
    auth = token === undefined ? undefined : typeof token === "string" ? { token } : token;
    acks = acksAtOnce;
    socket = io(url, { ...options, forceNew: true, auth: auth && ((give) => give(auth)) });
    socket.onAny((event, ...args) => heard(event, args));
    socket.on("connect", () => say({ life: "connect", recovered: socket.recovered, transport: socket.io.engine.transport.name }));
    socket.on("disconnect", (reason) => say({ life: "disconnect", reason, active: socket.active }));
    socket.on("connect_error", (error) => say({ life: "connect_error", message: error.message, data: error.data, active: socket.active }));
    socket.io.on("open", () => socket.io.engine.on("upgrade", (transport) => say({ life: "upgrade", transport: transport.name })));
  },
  renew({ token }) { auth = { token }; },
  acking({ atOnce }) { acks = atOnce; },
  emit({ event, args, ack, timeout }) {
    if (ack === undefined) return socket.emit(event, ...args);
    if (timeout === undefined) return socket.emit(event, ...args, (...answer) => say({ ack, answer }));
    socket.timeout(timeout).emit(event, ...args, (error, ...answer) => say(error ? { ack, failed: error.message } : { ack, answer }));
  },
  retried({ event, args, ack }) {
    socket.emit(event, ...args, (error, ...answer) => say(error ? { ack, failed: error.message } : { ack, answer }));
  },
  answer({ callback, args }) { callbacks.get(callback)(...args); },
  cut() { socket.io.engine.close(); },
  drop() { socket.io.engine.transport.ws?.terminate?.(); },
  again() { socket.connect(); },
  leave() { socket.disconnect(); },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...details } = JSON.parse(line);
  commands[command](details);
}
process.exit(0);
