-- acquire_job: a node asks for a job, or renews its lease; primary key of jobs
select lease_no as "lease_no?", cursor as "cursor!", passed_ms as "passed_ms?" from restante_acquire_job($1, $2, $3)
