-- seq_of_message: the number of a message in this chat; primary key of messages
select seq from messages where id = $1 and chat_id = $2
