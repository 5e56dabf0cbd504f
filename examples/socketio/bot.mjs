// The chat of the page beside it, run by Node: it answers each message once, also when it or the service is killed in the middle. A message and
// the id of its answer are one line of a file, and the id's second line says that the answer is stored.
//
//   npm ci
//   RESTANTE_URL=http://127.0.0.1:8080 RESTANTE_TOKEN=… node bot.mjs
//
// RESTANTE_DEVICE names this installation, RESTANTE_STORE the file that it keeps. Each line that it prints is JSON.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { io } from "socket.io-client";
import { Chat, uuidv7 } from "./chat.js";

const say = (event, what) => console.log(JSON.stringify({ event, ...what }));

/** The memory of the bot: for each message the answer to it. A line that a crash has cut off is no line. */
class Kept {
  #path = process.env.RESTANTE_STORE ?? "bot.log";
  #ids = new Set();
  unsent = new Map();

  constructor() {
    const text = existsSync(this.#path) ? readFileSync(this.#path, "utf8") : "";
    for (const line of text.split("\n").filter((line) => line.endsWith("}"))) this.#learn(JSON.parse(line));
  }

  put({ messageId, messageType, chatId, content }) {
    if (this.#ids.has(messageId)) return false;
    // A bot that answers answers never stops.
    const answer = { messageId: uuidv7(), chatId, content: `echo: ${content}`, messageType: "answer" };
    this.#write(messageType === "answer" ? { messageId } : { messageId, answer });
    return true;
  }

  sent(answer) {
    this.#write({ sent: answer.messageId });
  }

  #write(line) {
    // The line break before it ends a line that was cut off.
    appendFileSync(this.#path, `\n${JSON.stringify(line)}`, { flush: true });
    this.#learn(line);
  }

  #learn({ messageId, answer, sent }) {
    if (messageId) this.#ids.add(messageId);
    if (answer) this.unsent.set(answer.messageId, answer);
    if (sent) this.unsent.delete(sent);
  }
}

const kept = new Kept();
const underWay = new Set();
const chat = new Chat({
  io,
  url: process.env.RESTANTE_URL,
  token: async () => process.env.RESTANTE_TOKEN,
  device: process.env.RESTANTE_DEVICE ?? "bot",
  kept,
  shows: {
    message(message) {
      chat.read(message);
      const { messageId, senderId, content } = message;
      say("message", { messageId, senderId, content });
      sendAnswers();
    },
    status: () => undefined,
    recalled: () => undefined,
    gap: (gap) => say("gap", gap),
    drained: (data) => say("drained", data),
    stopped(reason) {
      say("stopped", { reason });
      process.exit(1);
    },
  },
});
sendAnswers();
process.once("SIGTERM", () => chat.close().then(() => process.exit()));

/** Hands every answer over that is not yet under way. */
function sendAnswers() {
  for (const answer of kept.unsent.values()) {
    if (underWay.has(answer.messageId)) continue;
    underWay.add(answer.messageId);
    chat
      .send(answer)
      .catch((refusal) => say("refused", { messageId: answer.messageId, ...refusal.cause }))
      .then(() => {
        kept.sent(answer);
        underWay.delete(answer.messageId);
      });
  }
}
