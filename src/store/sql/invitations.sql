-- invitations: the invitations that wait for a user, behind the one to a chat, in the order of the chats; primary key of invitations
select f.chat_id as "chat_id!", (select c.title from chats c where c.id = f.chat_id) as "title?", u.id as "inviter_id!", u.external_id as "inviter!",
       u.display_name as "name?", u.avatar_url as "picture?", f.invited_at as "invited_at!", f.expires_at as "expires_at!"
from (
  select x.chat_id, x.inviter_id, x.invited_at, x.expires_at from invitations x
  where x.user_id = $1 and x.chat_id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000') and x.declined_at is null and x.expires_at > now()
  order by x.chat_id
  limit $3
) f
cross join lateral (select x.* from users x where x.id = f.inviter_id limit 1) u
order by f.chat_id
