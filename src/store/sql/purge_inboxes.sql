-- purge_inboxes: removes what recipients finished long ago, a page of inboxes; primary keys (see restante_purge_inboxes)
select rows_gone as "rows_gone!", late_ms as "late_ms!", next_user as "next_user?", next_class as "next_class?: enums::Class"
from restante_purge_inboxes($1, $2, $3, $4, $5)
