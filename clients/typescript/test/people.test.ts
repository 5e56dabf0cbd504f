/** Contacts, blocks and invitations against the real service, where only contacts write to one another. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Client, ClientOptions } from "../src/index.js";
import { Blocks } from "../src/people/contacts.js";
import { people, type ContactChange, type InvitationChange, type People } from "../src/people/index.js";
import { client, isOpen, user } from "./support/clients.js";
import { Service } from "./support/service.js";
import { Log, until } from "./support/signals.js";

let service: Service;
before(async () => {
  service = await Service.start({ DIRECT_MESSAGES: "contacts" });
});
after(() => service.remove());

interface Person extends People {
  id: string;
  client: Client;
}

/** A user with a connection. */
async function person(name: string, options: Partial<ClientOptions> = {}): Promise<Person> {
  const id = user(name);
  const token = async (): Promise<string> => service.token(id);
  const one = client(service, id, { token, ...options });
  const all = people(one, { url: service.url, token });
  await isOpen(one);
  return { id, client: one, ...all };
}

async function listed<T>(list: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of list) all.push(item);
  return all;
}

const leave = (...all: Person[]): Promise<unknown> => Promise.all(all.map((one) => one.client.close()));

async function group(admin: Person, ...members: Person[]): Promise<string> {
  return (await service.http(admin.id, "POST", "/v1/chats", { kind: "group", title: "crew", members: members.map(({ id }) => id) })).chatId;
}

test("a contact is requested, accepted and removed, and both are told", async () => {
  const [anna, ben] = [await person("anna"), await person("ben")];
  const [heard, own] = [new Log<ContactChange>(), new Log<ContactChange>()];
  ben.contacts.subscribe(heard.add);
  anna.contacts.subscribe(own.add);
  assert.equal(await anna.contacts.request(ben.id), "requested");
  await heard.reaches(1, "request");
  assert.deepEqual((await listed(anna.contacts.list("requested"))).map(({ userId }) => userId), [ben.id]);
  assert.deepEqual((await listed(ben.contacts.list("incoming"))).map(({ userId }) => userId), [anna.id]);
  assert.equal(await ben.contacts.accept(anna.id), "contact");
  await own.reaches(1, "answer");
  assert.deepEqual((await listed(ben.contacts.list())).map(({ userId }) => userId), [anna.id]);
  assert.equal(await anna.contacts.remove(ben.id), "none");
  await heard.reaches(2, "changes");
  assert.equal(await anna.contacts.request(ben.id), "requested");
  assert.equal(await ben.contacts.decline(anna.id), "none");
  await own.reaches(2, "answers");
  assert.deepEqual(heard.items.slice(0, 2).map(({ change, userId, by }) => [change, userId, by]), [
    ["requested", anna.id, anna.id],
    ["removed", anna.id, anna.id],
  ]);
  assert.deepEqual(own.items.map(({ change, by }) => [change, by]), [
    ["accepted", ben.id],
    ["removed", ben.id],
  ]);
  await assert.rejects(ben.contacts.accept(anna.id), { name: "Refusal", code: "not_found" });
  await leave(anna, ben);
});

test("a list of any length comes page by page, and one that stops asks for no more", async () => {
  const asked: object[] = [];
  const request = async (_: string, data: object): Promise<unknown> => {
    const page = asked.push(data);
    const blocks = [{ userId: `${page}-a` }, { userId: `${page}-b` }];
    return { blocks, next: page < 3 ? blocks[1]!.userId : null };
  };
  const blocks = new Blocks({ request } as unknown as Client);
  assert.deepEqual((await listed(blocks.list())).map(({ userId }) => userId), ["1-a", "1-b", "2-a", "2-b", "3-a", "3-b"]);
  assert.deepEqual(asked, [{ limit: 500 }, { limit: 500, after: "1-b" }, { limit: 500, after: "2-b" }]);
  asked.length = 0;
  for await (const { userId } of blocks.list()) if (userId === "1-b") break;
  assert.equal(asked.length, 1);
});

test("a user is blocked, and is not any more", async () => {
  const [anna, ben] = [await person("anna"), await person("ben")];
  assert.equal(await anna.blocks.add(ben.id), true);
  assert.equal(await anna.blocks.add(ben.id), true, "it may be repeated");
  assert.deepEqual((await listed(anna.blocks.list())).map(({ userId }) => userId), [ben.id]);
  await assert.rejects(anna.contacts.request(ben.id), { code: "conflict" });
  assert.equal(await anna.blocks.remove(ben.id), false);
  assert.deepEqual(await listed(anna.blocks.list()), []);
  await leave(anna, ben);
});

test("who is invited hears of it, accepts, and is a member", async () => {
  const [anna, carol] = [await person("anna"), await person("carol")];
  const changes = new Log<InvitationChange>();
  carol.invitations.subscribe(changes.add);
  const chatId = await group(anna);
  const added = await anna.invitations.invite(chatId, [carol.id]);
  assert.deepEqual([added.added, added.invited], [[], [carol.id]]);
  await changes.reaches(1, "invitation");
  assert.deepEqual([changes.items[0]!.invitation?.by, changes.items[0]!.invitation?.title], [anna.id, "crew"]);
  assert.deepEqual(carol.invitations.waiting(), await listed(carol.invitations.list()));
  assert.deepEqual((await listed(anna.invitations.of(chatId))).map(({ userId }) => userId), [carol.id]);
  assert.deepEqual(await carol.invitations.accept(chatId), { chatId, state: "member", joinedSeq: 0 });
  await changes.reaches(2, "changes");
  assert.deepEqual([changes.items[1], carol.invitations.waiting()], [{ chatId, invitation: undefined }, []]);
  const { removed, withdrawn } = await anna.invitations.withdraw(chatId, [carol.id]);
  assert.deepEqual([removed, withdrawn], [[carol.id], undefined], "a member is removed by the same");
  await leave(anna, carol);
});

test("an invitation is declined and withdrawn, and the other side is told", async () => {
  const [anna, carol, dora] = [await person("anna"), await person("carol"), await person("dora")];
  const [carols, doras] = [new Log<InvitationChange>(), new Log<InvitationChange>()];
  carol.invitations.subscribe(carols.add);
  dora.invitations.subscribe(doras.add);
  const chatId = await group(anna, carol, dora);
  await Promise.all([carols.reaches(1, "invitation"), doras.reaches(1, "invitation")]);
  assert.deepEqual(await carol.invitations.decline(chatId), { chatId, state: "declined" });
  await carols.reaches(2, "changes");
  await assert.rejects(anna.invitations.invite(chatId, [carol.id]), { code: "not_accepted" });
  const { removed, withdrawn } = await anna.invitations.withdraw(chatId, [dora.id]);
  assert.deepEqual([removed, withdrawn], [[], [dora.id]]);
  await doras.reaches(2, "changes");
  assert.deepEqual(dora.invitations.waiting(), []);
  await assert.rejects(dora.invitations.accept(chatId), { code: "not_found" });
  await leave(anna, carol, dora);
});

test("what becomes of invitations while there is no connection is found when there is one again", async () => {
  const events = new EventTarget();
  const [anna, carol] = [await person("anna"), await person("carol", { events: [events] })];
  const changes = new Log<InvitationChange>();
  carol.invitations.subscribe(changes.add);
  const [stays, goes] = [await group(anna, carol), await group(anna, carol)];
  await changes.reaches(2, "invitations");
  events.dispatchEvent(new Event("offline"));
  await until("offline", carol.client.state, () => carol.client.state.value.name === "offline");
  await anna.invitations.withdraw(goes, [carol.id]);
  events.dispatchEvent(new Event("online"));
  await until("the end of the one", changes, () => changes.items.some(({ chatId, invitation }) => chatId === goes && !invitation));
  assert.deepEqual(carol.invitations.waiting().map(({ chatId }) => chatId), [stays]);
  assert.ok(!changes.items.some(({ chatId, invitation }) => chatId === stays && !invitation), "what waits was never told as over");
  await leave(anna, carol);
});

test("a question without a connection is refused, and one of a stranger has the code of the service", async () => {
  const [anna, ben] = [await person("anna"), await person("ben")];
  const chatId = await group(anna);
  await assert.rejects(listed(ben.invitations.of(chatId)), { code: "not_a_member" });
  await ben.client.close();
  await assert.rejects(ben.contacts.request(anna.id), { name: "Refusal", code: "connection_lost" });
  await leave(anna);
});

test("a token that was refused over HTTP is asked for again, once", async () => {
  const anna = await person("anna");
  const chatId = await group(anna);
  const asked: (string | undefined)[] = [];
  const old = service.token(anna.id, -60);
  const token = (refused?: string): string => {
    asked.push(refused);
    return refused === undefined ? old : service.token(anna.id);
  };
  const { invitations } = people(anna.client, { url: service.url, token });
  assert.deepEqual(await listed(invitations.of(chatId)), []);
  assert.deepEqual(asked, [undefined, old]);
  const { invitations: hopeless } = people(anna.client, { url: service.url, token: old });
  await assert.rejects(listed(hopeless.of(chatId)), { code: "token_expired" });
  await leave(anna);
});
