-- erase_events: empties the next events of a user that is erased, of all streams; a_stream_belongs_to_one_feed, a_chat_number_names_one_message (see restante_erase_events)
select restante_erase_events($1, $2) as "is_last!"
