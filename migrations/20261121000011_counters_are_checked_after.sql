-- The rule that counters only grow, checked after the update and not before it: a trigger before it reads and locks the
-- row once more, which its writer has locked already. A refused update is undone all the same.

drop trigger inbox_counters_only_grow on inboxes;
create trigger inbox_counters_only_grow after update on inboxes
  for each row when (new.last_seq < old.last_seq or new.settled_seq < old.settled_seq)
  execute function refuse_to_go_back('last_seq or settled_seq');
comment on trigger inbox_counters_only_grow on inboxes is 'A number that was given once is never given again.';

drop trigger chat_counters_only_grow on chats;
create trigger chat_counters_only_grow after update on chats
  for each row when (new.last_seq < old.last_seq)
  execute function refuse_to_go_back('last_seq');
comment on trigger chat_counters_only_grow on chats is 'A number that was given once is never given again.';
