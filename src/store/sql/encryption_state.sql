-- encryption_state: the settings of encryption, how many sweeps are wanted and done, and whether a key that replaces others has been in use for so many milliseconds; primary key of encryption, data_keys_by_time
select e.is_on as "is_on!", e.sweeps_wanted as "sweeps_wanted!", e.sweeps_done as "sweeps_done!",
       e.old_before is null or exists (
         select from data_keys k where k.made_at >= e.old_before and k.made_at <= clock_timestamp() - $1::bigint * interval '1 millisecond') as "is_replacing!"
from encryption e
where e.only_row
