-- beat: the heartbeat of a node; the function reads nodes and bus_keys by their primary keys
select came as "came!", boot as "boot!", live as "live!", boots as "boots!", key_numbers as "key_numbers!", secrets as "secrets!", sealing as "sealing!"
from restante_beat($1, $2)
