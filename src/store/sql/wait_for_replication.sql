-- wait_for_replication: writes a word beside messages that are there, so that the commit of it waits for a synchronous standby as theirs had to; messages' primary key
select from messages where id = any ($1::uuid[]) order by id for key share
