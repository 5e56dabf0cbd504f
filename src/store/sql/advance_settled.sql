-- advance_settled: moves settled_seq up to the first row that waits; primary keys of inboxes and message_status
select restante_advance_settled($1, $2) as "settled_seq!"
