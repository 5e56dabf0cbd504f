-- leave_direct: a user that was erased leaves a direct chat; primary keys (see restante_leave_direct)
select restante_leave_direct($1, $2) as "other?"
