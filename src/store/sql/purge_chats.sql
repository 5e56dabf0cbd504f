-- purge_chats: removes messages that are old and that no recipient has a row of, a page of chats; a_chat_number_names_one_message (see restante_purge_chats)
select messages_gone as "messages_gone!", late_ms as "late_ms!", next_chat as "next_chat?" from restante_purge_chats($1, $2, $3, $4)
