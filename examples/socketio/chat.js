// A chat over Socket.IO, as page and bot share it: it acks a message when it is kept, sends with ids of its own, again until each is stored, and
// tells what happened. It knows neither a page nor a file: both are handed in. What it sends is kept in memory alone; the client of
// clients/typescript also has an outbox that survives a reload.

/** A send that is refused with one of these goes again later, with the same id. */
const LATER = new Set(["busy", "unavailable", "rate_limited", "too_many_chats", "policy_unavailable", "no_answer"]);
const ANSWER_MS = 5_000;

export class Chat {
  #socket;
  #token;
  #kept;
  #shows;
  #lastSend = Promise.resolve();
  #lastError;

  /**
   * `io` is that of socket.io-client. `token` is a function that resolves with a token. `kept.put(message)` stores a message with whatever it brings
   * about, and returns false when its id was stored before. `shows` has `message`, `status`, `gap`, `drained`, `recalled` and `stopped`.
   */
  constructor({ io, url, token, device, kept, shows }) {
    this.#token = token;
    this.#kept = kept;
    this.#shows = shows;
    const auth = (give) => this.#token().then((token) => give({ token, device }));
    this.#socket = io(url, { auth, reconnectionDelay: 500, reconnectionDelayMax: 30_000 });
    this.#listen();
  }

  /** Resolves when the message is stored, and rejects when it is refused for good. One goes after another, which keeps their order. */
  send({ messageId = uuidv7(), ...message }) {
    const sent = this.#lastSend.then(() => this.#sendUntilStored({ messageId, ...message }));
    this.#lastSend = sent.catch(() => undefined);
    return sent;
  }

  /** The user has seen this message, and all before it. */
  read({ messageId, chatId }) {
    this.#socket.emit("message:read", { messageId, chatId });
  }

  /** Resolves when what was said has gone out. Sends without an answer stay without one. */
  async close() {
    const { engine } = this.#socket.io;
    const gone = this.#socket.connected && new Promise((resolve) => engine.once("close", resolve));
    this.#socket.disconnect();
    await gone;
  }

  #listen() {
    const socket = this.#socket;
    socket.on("message:receive", (message, ack) => {
      const isNew = this.#kept.put(message);
      ack({ received: true });
      if (isNew) this.#shows.message(message);
    });
    socket.on("message:recalled", (notice, ack) => {
      this.#shows.recalled(notice);
      ack?.({ received: true });
    });
    // Events that nobody here wants are acked all the same, or they would come again.
    socket.on("event:receive", (_, ack) => ack({ received: true }));
    socket.on("queue:gap", (gap) => {
      this.#shows.gap(gap);
      socket.emit("message:delivered", { upTo: gap.toSeq, class: gap.class });
    });
    socket.on("queue:drained", (data) => this.#shows.drained(data));
    socket.on("message:status", (data) => this.#shows.status(data));
    this.#listenToEnds();
  }

  /** The client comes back by itself where it may. */
  #listenToEnds() {
    const socket = this.#socket;
    socket.on("error", (error) => (this.#lastError = error));
    socket.on("connect_error", (error) => {
      if (!socket.active) this.#shows.stopped(error.data?.code ?? error.message);
    });
    socket.on("disconnect", (reason) => {
      if (reason === "io server disconnect") this.#shows.stopped(this.#lastError?.code ?? reason);
    });
  }

  async #sendUntilStored(message) {
    for (;;) {
      const answer = await this.#socket.timeout(ANSWER_MS).emitWithAck("message:send", message).catch(() => ({ error: { code: "no_answer" } }));
      if (!answer.error) return answer;
      if (!LATER.has(answer.error.code)) throw new Error(answer.error.message, { cause: answer.error });
      await new Promise((resolve) => setTimeout(resolve, answer.error.retryAfterMs ?? 500));
    }
  }
}

/** A UUID of version 7 (RFC 9562), which says when it was made. */
export function uuidv7() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const time = Date.now().toString(16).padStart(12, "0");
  const variant = ((bytes[8] & 0x3f) | 0x80).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex.slice(13, 16)}-${variant}${hex.slice(18, 20)}-${hex.slice(20)}`;
}
