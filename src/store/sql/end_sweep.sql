-- end_sweep: a sweep of all messages has come to its end; primary key of encryption
update encryption e set sweeps_done = greatest(e.sweeps_done, $1)
where e.only_row
