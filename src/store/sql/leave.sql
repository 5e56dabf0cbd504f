-- leave: a node ends as planned; primary key of nodes
select restante_leave($1, $2)
