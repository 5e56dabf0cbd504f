-- Audit: what operators have done. Each act of an operator adds a row in its own transaction, whoever asked for it: through a node, by a
-- command, or by hand in SQL. Rows are never changed and never removed.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table audit (
  id        bigint generated always as identity,
  at        timestamptz not null default clock_timestamp(),
  actor     text collate "C" not null,
  action    text collate "C" not null,
  target    jsonb not null,
  outcome   text collate "C" not null,
  node_id   uuid,
  role_name text collate "C" not null default session_user,
  address   inet default inet_client_addr(),
  constraint acts_are_known_by_their_number primary key (id),
  constraint an_actor_has_1_to_128_characters check (char_length(actor) between 1 and 128),
  constraint an_action_has_1_to_64_characters check (char_length(action) between 1 and 64),
  constraint a_target_is_an_object_of_at_most_2048_bytes check (jsonb_typeof(target) = 'object' and octet_length(target::text) <= 2048),
  constraint an_outcome_has_1_to_64_characters check (char_length(outcome) between 1 and 64)
);
comment on table audit is
  'One row for each act of an operator, written in the transaction of the act. Append-only, and kept for ever. Holds no content of messages and no token.';
comment on column audit.id is 'Number of the act. Rows are listed by it, newest first.';
comment on column audit.at is 'When it was done.';
comment on column audit.actor is 'The operator: the "sub" of its token, or the role that was logged in.';
comment on column audit.action is 'The act, such as dead_letter.requeue.';
comment on column audit.target is 'What was acted upon: ids by name, such as {"messageId": …, "userId": …}.';
comment on column audit.outcome is 'What came of it: the word that the operator was answered.';
comment on column audit.node_id is 'The node through which it was asked for. Null: by a command, or by hand in SQL.';
comment on column audit.role_name is 'The role of the database that wrote it: that of the node, or that of whoever was at work in SQL.';
comment on column audit.address is 'The address from which that role was connected. Null: over a socket of the machine itself.';
comment on constraint an_actor_has_1_to_128_characters on audit is 'As the name of a user.';
comment on constraint an_action_has_1_to_64_characters on audit is 'Acts are words of the service.';
comment on constraint a_target_is_an_object_of_at_most_2048_bytes on audit is 'Ids, and nothing that somebody has written.';
comment on constraint an_outcome_has_1_to_64_characters on audit is 'Outcomes are words of the service.';
comment on index acts_are_known_by_their_number is 'A page of acts.';

create function restante_refuse_change() returns trigger language plpgsql
set search_path from current
as $$
begin
  raise exception '% is append-only: no row of it is changed or removed', tg_table_name
    using errcode = 'integrity_constraint_violation', constraint = tg_name, table = tg_table_name;
end $$;
comment on function restante_refuse_change() is 'Raises, whoever asks and whether or not a row would change.';

create trigger what_was_done_stays_written before update or delete or truncate on audit
  for each statement execute function restante_refuse_change();
comment on trigger what_was_done_stays_written on audit is 'Keeps the owner from an accident too. It could drop the trigger, which is no accident.';

create function restante_note_truly() returns trigger language plpgsql
set search_path from current
as $$
begin
  if new.id is distinct from currval(pg_get_serial_sequence(tg_relid::regclass::text, 'id')) then
    raise exception 'the number of an act is given by its table' using errcode = 'integrity_constraint_violation', constraint = tg_name, table = tg_table_name;
  end if;
  new.at := clock_timestamp();
  new.role_name := session_user;
  new.address := inet_client_addr();
  return new;
end $$;
comment on function restante_note_truly() is 'Writes when, as which role and from where a row of audit was written, whatever the statement says of it.';

create trigger who_did_it_is_not_for_the_caller_to_say before insert on audit
  for each row execute function restante_note_truly();
comment on trigger who_did_it_is_not_for_the_caller_to_say on audit is 'A role that may write rows does not write them in the name of another role, nor with another time. A restore and replication are passed over.';

create function restante_audit(p_action text, p_target jsonb, p_outcome text, p_actor text default null, p_node uuid default null) returns void
language sql volatile
set search_path from current
as $$
  insert into audit (actor, action, target, outcome, node_id) values (coalesce(p_actor, session_user), p_action, p_target, p_outcome, p_node);
$$;
comment on function restante_audit(text, jsonb, text, text, uuid) is
  'Notes an act of an operator, in the transaction of the act. p_actor: null stands for the role that is logged in. p_node: the node through which it was asked for. p_target has ids only.';

create function restante_put_back(p_message uuid, p_user text, p_actor text default null, p_node uuid default null, out outcome text, out inbox_seq bigint)
language plpgsql volatile
set search_path from current
as $$
begin
  select r.outcome, r.inbox_seq into outcome, inbox_seq from restante_return_to_inbox(p_message, p_user) r;
  perform restante_audit('dead_letter.requeue', jsonb_build_object('messageId', p_message, 'userId', left(p_user, 128)), outcome, p_actor, p_node);
end $$;
comment on function restante_put_back(uuid, text, text, uuid) is
  'Puts a failed message back for one recipient (restante_return_to_inbox), and notes it in the audit, whatever the outcome.';

create function restante_discard(
  p_message uuid, p_user text, p_reason text default 'discarded by an operator', p_actor text default null, p_node uuid default null
) returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
  v_is_done boolean := restante_give_up(p_message, p_user, p_reason);
begin
  perform restante_audit('dead_letter.discard', jsonb_build_object('messageId', p_message, 'userId', left(p_user, 128)),
                         case when v_is_done then 'discarded' else 'not_failed' end, p_actor, p_node);
  return v_is_done;
end $$;
comment on function restante_discard(uuid, text, text, text, uuid) is
  'Gives up a message that still waits, or a dead letter (restante_give_up), and notes it in the audit, without the reason. False when it is neither. For a message that crashes its client, and for clearing the list.';
