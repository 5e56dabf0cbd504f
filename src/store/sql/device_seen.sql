-- device_seen: a connection of a device has ended, unless it has a newer one; primary key of devices
update devices set last_seen_at = clock_timestamp(), node_id = null where user_id = $1 and device_id = $2 and session_no = $3
