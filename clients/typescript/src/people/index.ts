/** Contacts, blocks and invitations of the user of a client: `@restante/client/people`. Pages that know no such things load none of it. */

import type { Client } from "../client.js";
import { Http, type Fetch } from "../http.js";
import type { TokenSource } from "../token.js";
import { Blocks, Contacts, type Asking } from "./contacts.js";
import { Invitations } from "./invitations.js";

export type { ContactChange } from "./contacts.js";
export type { InvitationChange } from "./invitations.js";
export type { Block, Contact, ContactState, Invitation, InvitationOk, InvitedUser, MembersAdded, MembersRemoved } from "../wire.js";
export { isRetryable } from "../retry.js";
export type { Blocks, Contacts, Fetch, Invitations };

/** Those of the client. */
export interface PeopleOptions {
  url: string;
  token: TokenSource;
  /** Stand-in for that of the platform. */
  fetch?: Fetch;
}

export interface People {
  contacts: Contacts;
  blocks: Blocks;
  invitations: Invitations;
}

/** Call it once for a client, with the options that it was made with, before it has a connection: what is told earlier is not heard. */
export function people(client: Pick<Client<any>, keyof Asking>, { url, token, fetch }: PeopleOptions): People {
  const source = async (refused?: string): Promise<string> => (typeof token === "string" ? token : token(refused));
  return { contacts: new Contacts(client), blocks: new Blocks(client), invitations: new Invitations(client, new Http(url, fetch), source) };
}
