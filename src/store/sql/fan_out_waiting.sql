-- fan_out_waiting: how many rows of listed users are still to be written, the first of them counted; primary key of fan_out_recipients, from its beginning
select count(*) as "waiting!" from (select from fan_out_recipients r where r.user_id >= 0 limit 10000) q
