-- direct_chats: direct chats of many users at once, made where they may be; each_external_id_names_one_user, two_users_share_one_direct_chat
-- Its lock time-out comes with it, as that of accept.
select chats as "chats?: Vec<Option<Uuid>>", made as "made?", is_known as "is_known?"
from restante_direct_chats($1, $2, case when set_config('lock_timeout', $4, true) is not null then $3::boolean[] end, $5)
