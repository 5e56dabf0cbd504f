-- device_seen: a device's connection has ended; primary key of devices
update devices set last_seen_at = clock_timestamp() where user_id = $1 and device_id = $2
