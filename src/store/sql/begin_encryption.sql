-- begin_encryption: a node that starts says whether it seals, and asks for a sweep if it does and if there may be plain text; primary key of encryption
update encryption e
set is_on = $1, allows_sql = $2,
    switched_at = case when (e.is_on, e.allows_sql) is distinct from ($1::boolean, $2::boolean) then clock_timestamp() else e.switched_at end,
    settled_sweep = case when (e.is_on, e.allows_sql) is not distinct from ($1::boolean, $2::boolean) then e.settled_sweep end,
    sweeps_wanted = e.sweeps_wanted
      + case when $1 and (e.settled_sweep is null or (e.is_on, e.allows_sql) is distinct from ($1::boolean, $2::boolean)) then 1 else 0 end
where e.only_row
returning true as "is_there!"
