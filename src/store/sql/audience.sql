-- audience: the other members of a chat that learn what one of them does, without those who have blocked it or that it has blocked; primary keys of chat_members, blocks and contacts
select them.user_id as "user_id!"
from chat_members me
join chat_members them on them.chat_id = me.chat_id and them.user_id <> me.user_id and them.left_seq is null
where me.chat_id = $2 and me.user_id = $1 and me.left_seq is null
  and (select true from blocks b where b.user_id = me.user_id and b.other_id = them.user_id limit 1) is null
  and (select true from blocks b where b.user_id = them.user_id and b.other_id = me.user_id limit 1) is null
  -- Where only contacts write to one another, only they are told.
  and (not $3::boolean or (select true from contacts c where c.user_id = me.user_id and c.other_id = them.user_id limit 1) is not null
    and (select true from contacts c where c.user_id = them.user_id and c.other_id = me.user_id limit 1) is not null)
limit 500
