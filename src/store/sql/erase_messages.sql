-- erase_messages: recalls the next messages of a user that is erased in the chat that the job is at; primary keys, a_chat_number_names_one_message (see restante_erase_messages)
select restante_erase_messages($1, $2, $3) as "messages!"
