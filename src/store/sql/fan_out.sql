-- fan_out: writes rows of listed users that are left from when their events were published; primary keys of fan_out_recipients and inboxes (see restante_fan_out)
select users as "users?", classes as "classes?: Vec<enums::Class>", rows_done as "rows_done!", superseded as "superseded?", next_user as "next_user?", next_class as "next_class?: enums::Class"
from restante_fan_out($1, $2, $3, $4)
