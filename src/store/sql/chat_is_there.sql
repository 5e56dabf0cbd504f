-- chat_is_there: whether a chat, or a stream of a feed, has this id; primary key of chats
select exists (select from chats where id = $1) as "is_there!"
