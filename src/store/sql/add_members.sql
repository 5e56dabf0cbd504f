-- add_members: named users join a group, under its row lock; each_external_id_names_one_user, primary keys of chats and chat_members
select outcome as "outcome!", user_id, external_id, title, joined_seq from restante_add_named_members($1, $2, $3, $4, $5, $6)
