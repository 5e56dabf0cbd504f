-- free_devices: the devices of a user that a node does not have any more, though they are noted as connected to it; primary key of devices
-- A device that connects at this moment may not have come to the node's list yet.
update devices set node_id = null
where user_id = $1 and node_id = $2 and not device_id = any ($3::text[]) and last_seen_at < clock_timestamp() - interval '10 s'
