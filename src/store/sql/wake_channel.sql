-- wake_channel: where the functions of this schema tell all of its nodes; no index
select restante_wake_channel() as "channel!"
