-- begin_direct_anew: a member of a direct chat sees nothing of what was said so far; primary keys (see restante_begin_direct_anew)
select restante_begin_direct_anew($1, $2)
