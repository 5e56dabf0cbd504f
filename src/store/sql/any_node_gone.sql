-- any_node_gone: has any node gone that is listed still; primary key of nodes, from its beginning
select exists (select from nodes n where n.node_id >= '00000000-0000-0000-0000-000000000000' and not restante_is_alive(n, clock_timestamp())) as "any!"
