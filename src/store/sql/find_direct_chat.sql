-- find_direct_chat: the direct chat of two users; two_users_share_one_direct_chat
select c.id
from users u
join chats c on c.direct_key = least(u.id, $1) || ':' || greatest(u.id, $1)
where u.external_id = $2
