-- catch_up_marks: moves on the marks of members that have far to go, a part each; primary keys (see restante_catch_up_marks)
select restante_catch_up_marks($1) as "any!"
