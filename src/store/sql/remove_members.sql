-- remove_members: named users leave a group, under its row lock; each_external_id_names_one_user, primary keys (see restante_remove_members)
-- A name that the service does not know stands for a user that nobody is (0): only an admin may name others than itself.
select outcome as "outcome!", user_id, external_id, left_seq, class as "class: enums::Class", seq, message_id, chat_seq, sender_id, ended_at
from restante_remove_members($1, $2, array(
  select coalesce(u.id, 0) from unnest($3::text[]) x (name) left join lateral (select y.id from users y where y.is_current and y.external_id = x.name limit 1) u on true))
