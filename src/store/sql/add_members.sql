-- add_members: members join a group, under its row lock; primary keys of chats and chat_members
select outcome as "outcome!", user_id, external_id, title, joined_seq from restante_add_members($1, $2, $3, $4)
