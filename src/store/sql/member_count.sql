-- member_count: how many are in a chat; a_user_is_in_a_chat_once
select count(*) as "members!" from chat_members cm where cm.chat_id = $1 and cm.left_seq is null
