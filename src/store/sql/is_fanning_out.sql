-- is_fanning_out: is a row of a listed user still to be written; primary key of fan_out_recipients, from its beginning
select exists (select from fan_out_recipients r where r.user_id >= 0) as "is_fanning_out!"
