-- beat: the heartbeat of a node; the function reads nodes by its primary key
select came as "came!", live as "live!" from restante_beat($1, $2)
