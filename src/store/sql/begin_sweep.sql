-- begin_sweep: a sweep of all messages begins; it is the last one that is needed, unless a node may store plain text still, which has run since before the settings were changed, or since a moment after it; primary keys of encryption and nodes
update encryption e set settled_sweep = $1
where e.only_row and e.is_on
  and not exists (
    select from nodes n
    where n.node_id >= '00000000-0000-0000-0000-000000000000' and n.started_at < coalesce(e.switched_at, '-infinity') + interval '1 minute')
