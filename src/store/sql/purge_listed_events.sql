-- purge_listed_events: removes events to listed users that nobody has a row of, a page of a stream; a_chat_number_names_one_message (see restante_purge_listed_events)
select events_gone as "events_gone!", late_ms as "late_ms!", next_seq as "next_seq?" from restante_purge_listed_events($1, $2, $3)
