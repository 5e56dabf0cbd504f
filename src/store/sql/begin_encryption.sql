-- begin_encryption: a node that starts says whether it seals, and asks for a sweep if it does; primary key of encryption
update encryption e set is_on = $1, allows_sql = $2, sweeps_wanted = e.sweeps_wanted + case when $1 then 1 else 0 end
where e.only_row
returning true as "is_there!"
