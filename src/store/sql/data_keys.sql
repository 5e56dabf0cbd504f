-- data_keys: all data keys as they are stored, the newest first, each with its age and whether a rotation replaces it; data_keys_by_time
select k.id as "id!", k.master_id as "master_id!", k.wrapped as "wrapped!", k.made_at as "made_at!",
       greatest(extract(epoch from clock_timestamp() - k.made_at) * 1000, 0)::bigint as "age_ms!", coalesce(k.made_at < e.old_before, false) as "is_replaced!"
from (select x.old_before from encryption x where x.only_row limit 1) e
cross join lateral (select x.* from data_keys x where x.made_at > '-infinity' order by x.made_at desc, x.id desc limit 10000) k
