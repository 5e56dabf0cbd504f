// A bot with the client of clients/typescript: the client keeps the connection, the outbox and the ids of what was processed, and the bot says
// what to do with a message. It answers each one once, also when it or the service is killed in the middle.
//
//   cd clients/typescript && npm ci && npm run build
//   RESTANTE_URL=http://127.0.0.1:8080 RESTANTE_TOKEN=… node examples/sdk/bot.mjs
//
// RESTANTE_DEVICE names this installation, RESTANTE_STORE the file that it keeps. Each line that it prints is JSON. In a project of your own the
// imports are "@restante/client" and "@restante/client/file".
import { createRequire } from "node:module";
import { connect, uuidv7 } from "../../clients/typescript/dist/src/index.js";
import { fileStorage } from "../../clients/typescript/dist/src/storage/file.js";

// Node has a WebSocket of its own from version 22 on. Here an older one takes that of the package `ws`, which the client's tests have.
const WebSocket = globalThis.WebSocket ?? createRequire(new URL("../../clients/typescript/", import.meta.url))("ws").WebSocket;

const say = (event, what) => console.log(JSON.stringify({ event, ...what }));
const storage = await fileStorage(process.env.RESTANTE_STORE ?? "bot.log");

const client = connect({
  url: process.env.RESTANTE_URL,
  token: process.env.RESTANTE_TOKEN,
  device: process.env.RESTANTE_DEVICE ?? "bot",
  storage,
  WebSocket,
  onGap: (gap) => say("gap", gap),
  onFrame: ({ event, data }) => event === "queue:drained" && say("drained", data),
  onRefused: ({ code, data }) => say("refused", { code, messageId: data.messageId }),
});

client.state.subscribe((state) => {
  if (state.name !== "stopped") return;
  say("stopped", { reason: state.reason });
  process.exitCode = 1;
  void stop();
});
process.once("SIGTERM", stop);

for await (const message of client.messages()) {
  // A bot that answers answers never stops.
  if (message.messageType !== "answer") await answer(message);
  await client.read(message.chatId, message.seq);
  await message.ack();
  const { messageId, senderId, content } = message;
  say("message", { messageId, senderId, content });
}

/** The id of an answer is stored before the first try: a message that comes twice is answered with the same id, which counts once. */
async function answer({ messageId, chatId, content }) {
  const id = await storage.transaction(async (tx) => {
    const known = await tx.get("answers", messageId);
    const chosen = known ?? uuidv7();
    if (!known) await tx.put("answers", messageId, chosen);
    return chosen;
  });
  await client.send({ messageId: id, chatId, content: `echo: ${content}`, messageType: "answer" });
}

async function stop() {
  await client.close();
  await storage.close();
}
