-- depart: users who have left a node, so many milliseconds ago; primary keys of presence_leases, last_seen and nodes
select user_id as "user_id!", external_id as "external_id!", at as "at!" from restante_depart($1, $2, $3)
