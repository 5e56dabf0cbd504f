// Replays chat logs with unchanged clients of Socket.IO, while the service is killed again and again, and checks that nothing is lost, that each
// member has every message, and that all see them in one order. It starts the service itself, on a database that is removed afterwards:
//
//   node replay.mjs [--kills 6] [--lines N] [--transport websocket|polling|both] LOG…
//
// The service is started by the tests' support of clients/typescript, which is to be built (`npm run build`) and says which program it takes.
// The forms of lines are those of `restante-lab replay`. Each nick is a user with one client, and all of them are members of one group. The last
// line that it prints is its verdict as JSON; it ends with 1 where something is wrong.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { io } from "socket.io-client";
import { Service } from "../../clients/typescript/dist/test/support/service.js";

const BOUND_MS = 600_000;
/** Messages without an answer, of all together. */
const AHEAD_MAX = 200;

const { values: options, positionals: logs } = parseArgs({
  allowPositionals: true,
  options: {
    kills: { type: "string", default: "6" },
    lines: { type: "string", default: "1000000" },
    transport: { type: "string", default: "both" },
  },
});
const transports = options.transport === "both" ? ["polling", "websocket"] : [options.transport];

/** Everybody who appears in a log, and its steps in their order: a person `joins`, `leaves` or `says` something, whatever its name is then. */
function read(text, linesMax) {
  const named = new Map();
  const people = [];
  const steps = [];
  const person = (nick, startsOnline = true) => {
    if (!named.has(nick)) {
      named.set(nick, { userId: `${nick}-${people.length}`, startsOnline });
      people.push(named.get(nick));
    }
    return named.get(nick);
  };
  for (const line of text.split("\n").slice(0, linesMax)) {
    const said = /^\[\d\d:\d\d\] <(\S+)> (.*)$/.exec(line);
    const joined = /^=== (\S+) \[.*\]\s+has joined /.exec(line);
    const left = /^=== (\S+) \[.*\]\s+has left /.exec(line);
    const renamed = /^=== (\S+) is now known as (\S+)/.exec(line);
    if (said) steps.push({ person: person(said[1]), says: said[2] || " " });
    else if (joined) steps.push({ person: person(joined[1], false), joins: true });
    else if (left) steps.push({ person: person(left[1]), leaves: true });
    else if (renamed) named.set(renamed[2], person(renamed[1]));
  }
  return { people, steps };
}

/** A client as an application has it: it sends with ids and the client's own retries, and acks what it has kept. */
class Member {
  /** Numbers of the chat, in the order in which they came first. */
  kept = [];
  repeated = 0;
  #ids = new Set();
  #queue = [];
  #isSending = false;
  #isLeaving = false;
  #socket;

  constructor(service, person, told) {
    this.userId = person.userId;
    this.said = [];
    this.told = told;
    this.service = service;
  }

  comes() {
    this.#isLeaving = false;
    if (this.#socket) return this.#socket.connect();
    const auth = (give) => give({ token: this.service.token(this.userId) });
    this.#socket = io(this.service.url, { transports, auth, forceNew: true, retries: 1_000, ackTimeout: 5_000, reconnectionDelay: 100, reconnectionDelayMax: 1_000 });
    this.#socket.on("message:receive", (message, confirm) => {
      if (this.#ids.has(message.messageId)) this.repeated += 1;
      else this.kept.push(message.seq);
      this.#ids.add(message.messageId);
      confirm({ received: true });
      this.told();
    });
    this.#socket.on("connect_error", (error) => {
      if (error.data?.code) throw new Error(`${this.userId} is refused: ${error.data.code}`);
    });
  }

  /** It goes when everything that it said is answered. */
  goes() {
    this.#isLeaving = true;
    if (!this.#isSending) this.#socket?.disconnect();
  }

  /** Resolves when the service has stored it. A member's messages go one after another, in order. */
  say(chatId, content) {
    return new Promise((resolve) => {
      this.#queue.push({ data: { chatId, content, messageId: randomUUID() }, resolve });
      void this.#send();
    });
  }

  async #send() {
    if (this.#isSending) return;
    this.#isSending = true;
    if (!this.#socket?.active) this.comes();
    while (this.#queue.length > 0) {
      const { data, resolve } = this.#queue[0];
      const answer = await this.#ask(data);
      if (answer.error) {
        if (answer.error.retryAfterMs === undefined) throw new Error(`${this.userId} cannot send: ${JSON.stringify(answer.error)}`);
        await new Promise((wake) => setTimeout(wake, answer.error.retryAfterMs));
        continue;
      }
      this.said.push(answer.seq);
      this.#queue.shift();
      resolve();
    }
    this.#isSending = false;
    if (this.#isLeaving) this.goes();
  }

  #ask(data) {
    return new Promise((resolve) => this.#socket.emit("message:send", data, (error, answer) => resolve(error ? { error: { retryAfterMs: 100 } } : answer)));
  }

  /** Returns whether something waits for it. Acks may be under way, so it asks again for a while. */
  async hasWaiting() {
    for (let tries = 1; ; tries++) {
      const { messages } = await this.service.http(this.userId, "GET", "/v1/inbox?limit=1");
      if (messages.length === 0 || tries === 50) return messages.length > 0;
      await new Promise((wake) => setTimeout(wake, 200));
    }
  }
}

async function replay(log) {
  const service = await Service.start({ SEND_RATE: "0", REQUEST_RATE: "0" });
  const { people, steps } = read(log, Number(options.lines));
  let look = () => {};
  const members = new Map(people.map((person) => [person, new Member(service, person, () => look())]));
  const until = (what, isTrue) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), BOUND_MS);
    look = () => {
      if (!isTrue()) return;
      clearTimeout(timer);
      look = () => {};
      resolve();
    };
    look();
  });

  const [first, ...others] = people.map((person) => person.userId);
  const { chatId } = await service.http(first, "POST", "/v1/chats", { kind: "group", title: "replay", members: others.slice(0, 500) });
  for (const person of people) if (person.startsOnline) members.get(person).comes();
  const kills = Number(options.kills);
  let [answered, asked, killed, restarts] = [0, 0, 0, Promise.resolve()];
  const crash = async () => {
    await service.kill();
    killed += 1;
    await service.start();
  };
  for (const [n, step] of steps.entries()) {
    for (let kill = 1; kill <= kills; kill++) if (n === Math.floor((kill * steps.length) / (kills + 1))) restarts = restarts.then(crash);
    const member = members.get(step.person);
    if (step.joins) member.comes();
    if (step.leaves) member.goes();
    if (step.says === undefined) continue;
    asked += 1;
    void member.say(chatId, step.says).then(() => {
      answered += 1;
      look();
    });
    if (asked - answered >= AHEAD_MAX) await until("answers", () => asked - answered < AHEAD_MAX / 2);
  }
  await restarts;
  await until("the last answers", () => answered === asked);
  for (const member of members.values()) member.comes();
  const isWhole = (member) => member.kept.length >= asked - member.said.length;
  // A message beyond the last one would be wrong, so it is looked for when nothing waits any more.
  await until("the last messages", () => [...members.values()].every(isWhole)).catch(() => {});
  const waiting = await Promise.all([...members.values()].map((member) => member.hasWaiting()));

  const all = Array.from({ length: asked }, (_, n) => n + 1);
  const wrong = [];
  const isAscending = (numbers) => numbers.every((number, n) => n === 0 || numbers[n - 1] < number);
  for (const member of members.values()) {
    const expected = all.filter((seq) => !member.said.includes(seq));
    const lost = expected.filter((seq) => !member.kept.includes(seq));
    if (lost.length > 0) wrong.push(`${member.userId} lost ${lost.length}: ${lost.slice(0, 5)}`);
    if (member.kept.length > expected.length - lost.length) wrong.push(`${member.userId} has too many`);
    if (!isAscending(member.kept)) wrong.push(`${member.userId} has them out of order`);
    if (!isAscending(member.said)) wrong.push(`what ${member.userId} said is out of order`);
  }
  const said = [...members.values()].flatMap((member) => member.said).sort((a, b) => a - b);
  if (said.length !== asked || said.some((seq, n) => seq !== n + 1)) wrong.push("numbers of the chat have a hole, or one stands twice");
  if (waiting.some(Boolean)) wrong.push(`messages wait for ${waiting.filter(Boolean).length} members that acked all`);
  const repeated = [...members.values()].reduce((sum, member) => sum + member.repeated, 0);
  const received = [...members.values()].reduce((sum, member) => sum + member.kept.length, 0);
  for (const member of members.values()) member.goes();
  await service.remove();
  return { members: people.length, messages: asked, received, repeated, kills: killed, wrong: wrong.slice(0, 20) };
}

let isGood = true;
for (const log of logs) {
  const began = Date.now();
  const verdict = await replay(readFileSync(log, "utf8"));
  isGood &&= verdict.wrong.length === 0;
  console.log(JSON.stringify({ log, seconds: Math.round((Date.now() - began) / 1000), ...verdict }));
}
process.exit(isGood ? 0 : 1);
