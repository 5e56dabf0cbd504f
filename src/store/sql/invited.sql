-- invited: who is invited to a chat, for a member of it, behind one of them, in the order in which the service met them; primary key of chat_members, invitations_by_chat
select u.id as "user_id!", u.external_id as "external_id!", u.display_name as "name?", u.avatar_url as "picture?",
       (select y.external_id from users y where y.id = f.inviter_id) as "inviter!", f.invited_at as "invited_at!", f.expires_at as "expires_at!"
from (select x.chat_id from chat_members x where x.chat_id = $2 and x.user_id = $1 and x.left_seq is null limit 1) me
cross join lateral (
  select x.user_id, x.inviter_id, x.invited_at, x.expires_at from invitations x
  where x.chat_id = me.chat_id and x.user_id > coalesce((select y.id from users y where y.is_current and y.external_id = $3), 0)
    and x.declined_at is null and x.expires_at > now()
  order by x.user_id
  limit $4
) f
cross join lateral (select x.* from users x where x.id = f.user_id limit 1) u
order by f.user_id
