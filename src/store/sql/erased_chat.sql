-- erased_chat: the next chat of a user that is erased, from a place on; members_by_user, primary keys
select m.chat_id as "chat_id!", h.last_seq as "last_seq!", m.left_seq is null as "is_member!", c.kind = 'group' as "is_group!"
from (
  select x.chat_id, x.left_seq from chat_members x
  where x.user_id = $1 and x.chat_id >= $2 and (x.chat_id > $2 or $3 < 9223372036854775807)
  order by x.chat_id limit 1
) m
cross join lateral (select x.kind from chats x where x.id = m.chat_id limit 1) c
cross join lateral (select x.last_seq from chat_heads x where x.chat_id = m.chat_id order by x.step desc limit 1) h
