/**
 * Invitations to groups, from both sides. Those that wait for the user are kept as the service tells them: as they happen, and after each opening of a
 * connection. What has ended while there was none is found by asking for the list, which only a client that knows of an invitation does. An admin
 * invites and withdraws over HTTP, where the protocol has it.
 */

import type { Http } from "../http.js";
import { Listeners } from "../observable.js";
import type { ChatUninvited, Invitation, InvitationListOk, InvitationOk, InvitedList, InvitedUser, MembersAdded, MembersRemoved } from "../wire.js";
import type { Asking } from "./contacts.js";
import { PAGE, paged } from "./pages.js";

/** An invitation of the user that waits now, or, without one, that waits no more. */
export interface InvitationChange {
  chatId: string;
  invitation: Invitation | undefined;
}

/** A source of tokens, told of one that was refused. */
export type AskToken = (refused?: string) => Promise<string>;

/** Listeners are told of each change of those that wait for the user. */
export class Invitations extends Listeners<InvitationChange> {
  readonly #client: Asking;
  readonly #http: Http;
  readonly #token: AskToken;
  readonly #waiting = new Map<string, Invitation>();

  constructor(client: Asking, http: Http, token: AskToken) {
    super();
    this.#client = client;
    this.#http = http;
    this.#token = token;
    client.frames.subscribe(({ event, data }) => {
      if (event === "chat:invited") this.#invited(data as Invitation);
      if (event === "chat:uninvited") this.#uninvited((data as ChatUninvited).chatId);
    });
    client.state.subscribe((state) => {
      // One that is lost again comes back, and looks again.
      if (state.name === "open") this.#look().catch(() => undefined);
    });
  }

  /** Those that wait for the user, as far as this client was told. Nothing tells that one has come to its `expiresAt`. */
  waiting(): Invitation[] {
    return [...this.#waiting.values()];
  }

  /** Those that wait for the user, in the order of their chats' ids, as the service has them. */
  list(): AsyncGenerator<Invitation, void, undefined> {
    return paged(async (after) => {
      const { invitations, next } = (await this.#client.request("invitation:list", { limit: PAGE, ...after })) as InvitationListOk;
      return { items: invitations, next };
    });
  }

  /** The user comes. It gets messages above `joinedSeq`. */
  async accept(chatId: string): Promise<InvitationOk> {
    return (await this.#client.request("invitation:accept", { chatId })) as InvitationOk;
  }

  /** The user does not come, and is not invited to this group again for a time. */
  async decline(chatId: string): Promise<InvitationOk> {
    return (await this.#client.request("invitation:decline", { chatId })) as InvitationOk;
  }

  /** For admins: `added` are members now, which contacts of the admin become at once, and `invited` are asked. */
  async invite(chatId: string, userIds: string[]): Promise<MembersAdded> {
    return (await this.#ask("POST", chatId, "members", { userIds })) as MembersAdded;
  }

  /** For admins. It is how members are removed, too: `withdrawn` were invited, and `removed` had accepted meanwhile, and are members no more. */
  async withdraw(chatId: string, userIds: string[]): Promise<MembersRemoved> {
    return (await this.#ask("DELETE", chatId, "members", { userIds })) as MembersRemoved;
  }

  /** For members: the users who are invited to the group. */
  of(chatId: string): AsyncGenerator<InvitedUser, void, undefined> {
    return paged(async (after) => {
      const query = new URLSearchParams({ limit: String(PAGE), ...after });
      const { invited, next } = (await this.#ask("GET", chatId, `invitations?${query}`)) as InvitedList;
      return { items: invited, next };
    });
  }

  #ask(method: string, chatId: string, rest: string, body?: object): Promise<unknown> {
    return this.#http.askAs(this.#token, { method, path: `/v1/chats/${encodeURIComponent(chatId)}/${rest}`, ...(body && { body }) });
  }

  #invited(invitation: Invitation): void {
    const { chatId } = invitation;
    this.#waiting.set(chatId, invitation);
    this.tell({ chatId, invitation });
  }

  #uninvited(chatId: string): void {
    if (this.#waiting.delete(chatId)) this.tell({ chatId, invitation: undefined });
  }

  /** Those that are told while it asks are no others than those of the list. */
  async #look(): Promise<void> {
    const before = new Map(this.#waiting);
    if (before.size === 0) return;
    for await (const { chatId } of this.list()) before.delete(chatId);
    for (const [chatId, invitation] of before) if (this.#waiting.get(chatId) === invitation) this.#uninvited(chatId);
  }
}
