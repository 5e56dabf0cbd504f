// A client of /ws with the package `ws`, which socket.io-client brings: connects, says one message, acks what comes, and tells at the end what it
// was. Its one argument is JSON: the address, what the package is to offer (`perMessageDeflate`), how many messages to wait for, what to say.
import WebSocket from "ws";

const { url, offer, messages, say } = JSON.parse(process.argv[2]);
const socket = new WebSocket(url, { perMessageDeflate: offer });
const received = [];
let sent = false, tcp, error, extensions;

function take(envelopes) {
  received.push(...envelopes.map(({ content }) => content));
  socket.send(JSON.stringify({ event: "message:delivered", data: { messageIds: envelopes.map(({ messageId }) => messageId) } }));
}

socket.on("upgrade", ({ headers }) => { extensions = headers["sec-websocket-extensions"] ?? ""; });
socket.on("open", () => { tcp = socket._socket; });
socket.on("message", (text) => {
  const { event, data } = JSON.parse(text);
  if (event === "ready") socket.send(JSON.stringify({ event: "message:send", id: "1", data: say }));
  if (event === "message:sent") sent = true;
  if (event === "message:batch") take(data.messages);
  if (event === "message:receive") take([data]);
  if (sent && received.length >= messages) socket.close(1000);
});
socket.on("error", ({ message }) => { error = message; });
socket.on("close", (code) => {
  process.stdout.write(JSON.stringify({ code, error, extensions, received, bytes: tcp?.bytesRead }) + "\n");
});
