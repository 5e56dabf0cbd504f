-- release_job: gives a job back before its lease runs out; primary key of jobs
select restante_release_job($1, $2, $3) as "was_holder!"
