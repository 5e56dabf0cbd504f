-- preferences: what a user has muted; primary key of preferences
select p.muted_types as "muted_types!", p.muted_chats as "muted_chats!" from preferences p where p.user_id = $1
