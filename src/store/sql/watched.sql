-- watched: may these askers see these users, who are watched for them, and who of these is online; primary keys, and members_by_user
-- A lease of a node that has gone counts: who takes it out tells of it, and when the user was last there.
select w.asker as "asker!", w.watched as "watched!", u.external_id as "external_id!",
       w.asker = w.watched or case when $3::boolean then
           (select true from contacts c where c.user_id = w.asker and c.other_id = w.watched limit 1) is not null
           and (select true from contacts c where c.user_id = w.watched and c.other_id = w.asker limit 1) is not null
         else (
         select true from chat_members me
         cross join lateral (
           select from chat_members y where y.chat_id = me.chat_id and y.user_id = w.watched and y.left_seq is null limit 1) them
         where me.user_id = w.asker and me.left_seq is null limit 1) is not null end
         and (select true from blocks b where b.user_id = w.asker and b.other_id = w.watched limit 1) is null
         and (select true from blocks b where b.user_id = w.watched and b.other_id = w.asker limit 1) is null as "is_visible!",
       (select true from presence_leases p where p.user_id = w.watched limit 1) is not null as "online!",
       least((select l.seen_at from last_seen l where l.user_id = w.watched limit 1), clock_timestamp()) as "seen_at!", clock_timestamp() as "now!"
from unnest($1::bigint[], $2::bigint[]) w (asker, watched)
cross join lateral (select y.external_id from users y where y.id = w.watched limit 1) u
