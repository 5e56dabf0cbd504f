-- advance_job: stores where the next pass of a job begins, under the number of a lease; primary key of jobs
select restante_advance_job($1, $2, $3, $4, $5) as "is_holder!"
