/**
 * Contacts and blocks of the user of a client: asked for over its connection, and told as they happen. Nothing is repeated and nothing is kept: where
 * there is no connection a question rejects with `connection_lost`, and a client that was away finds the lists as they are. Every change may be repeated.
 */

import type { Client } from "../client.js";
import { Listeners } from "../observable.js";
import type { Block, BlockListOk, BlockOk, Contact, ContactListOk, ContactOk, ContactState } from "../wire.js";
import { PAGE, paged } from "./pages.js";

/** The part of a client that is used. */
export type Asking = Pick<Client, "request" | "frames" | "state">;

/** A change between the user and another one. */
export interface ContactChange {
  userId: string;
  /** The one of the two that has done it: other connections of the user are told what it does, too. */
  by: string;
  /** `removed`: also a request that was declined or taken back. */
  change: "requested" | "accepted" | "removed";
}

/** Listeners are told of each change while there is a connection. */
export class Contacts extends Listeners<ContactChange> {
  readonly #client: Asking;

  constructor(client: Asking) {
    super();
    this.#client = client;
    client.frames.subscribe(({ event, data }) => {
      const change = /^contact:(requested|accepted|removed)$/.exec(event)?.[1] as ContactChange["change"] | undefined;
      if (change) this.tell({ ...(data as Omit<ContactChange, "change">), change });
    });
  }

  /** Requests the user, or accepts its request. Resolves with what the two are now, as the next three do. */
  request(userId: string): Promise<ContactState> {
    return this.#ask("request", userId);
  }

  accept(userId: string): Promise<ContactState> {
    return this.#ask("accept", userId);
  }

  decline(userId: string): Promise<ContactState> {
    return this.#ask("decline", userId);
  }

  /** They are contacts no more. A request is taken back, or declined. */
  remove(userId: string): Promise<ContactState> {
    return this.#ask("remove", userId);
  }

  /** The contacts, the requests of the user, or those to it, in the order of their ids. */
  list(state: "contact" | "requested" | "incoming" = "contact"): AsyncGenerator<Contact, void, undefined> {
    return paged(async (after) => {
      const { contacts, next } = (await this.#client.request("contact:list", { state, limit: PAGE, ...after })) as ContactListOk;
      return { items: contacts, next };
    });
  }

  async #ask(verb: string, userId: string): Promise<ContactState> {
    return ((await this.#client.request(`contact:${verb}`, { userId })) as ContactOk).state;
  }
}

/** The users that the user has blocked. These are told nothing of it. */
export class Blocks {
  readonly #client: Asking;

  constructor(client: Asking) {
    this.#client = client;
  }

  /** Resolves with whether the user is blocked now, as `remove` does. */
  async add(userId: string): Promise<boolean> {
    return ((await this.#client.request("block:add", { userId })) as BlockOk).isBlocked;
  }

  async remove(userId: string): Promise<boolean> {
    return ((await this.#client.request("block:remove", { userId })) as BlockOk).isBlocked;
  }

  /** In the order of their ids. */
  list(): AsyncGenerator<Block, void, undefined> {
    return paged(async (after) => {
      const { blocks, next } = (await this.#client.request("block:list", { limit: PAGE, ...after })) as BlockListOk;
      return { items: blocks, next };
    });
  }
}
