-- reap: takes out a node that has gone, and some of its leases; leases_of_a_node, and primary keys
select user_id as "user_id!", external_id as "external_id!", at as "at!" from restante_reap($1)
