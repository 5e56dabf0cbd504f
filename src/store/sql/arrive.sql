-- arrive: users who are connected to a node now; primary keys of presence_leases and nodes
select user_id as "user_id!", external_id as "external_id!", at as "at!" from restante_arrive($1, $2)
