-- advance_settled: moves settled_seq up to the first row that waits; primary keys of inboxes and message_status
-- Nobody waits for the disk: after a crash settled_seq may be what it was before, which is true still.
select restante_advance_settled($1, $2) as "settled_seq!" from set_config('synchronous_commit', 'off', true)
