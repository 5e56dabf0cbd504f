-- purge_devices: removes the devices of a page that were not seen for so many seconds; primary key of devices from a place on, then of nodes
select seen as "seen!", purged as "purged!", last_user, last_device from restante_purge_devices($1, $2, $3, $4)
