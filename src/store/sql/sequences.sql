-- sequences: those that number a column of the schema, what tells whether one has been left behind by its column, and what moves it up; catalogues
select s.name as "name!", s.may_look as "may_look!", s.may_move as "may_move!",
       format('select coalesce(max(%I), 0) > (select q.last_value - (not q.is_called)::int from %s q) from %s', s.numbered, s.name, s.owner) as "is_behind!",
       format('select setval(%L, max(%I)) from %s having max(%I) > (select q.last_value - (not q.is_called)::int from %s q)',
              s.name, s.numbered, s.owner, s.numbered, s.name) as "moves!"
from (
  select format('%I.%I', n.nspname, q.relname) as name, format('%I.%I', m.nspname, t.relname) as owner, a.attname as numbered,
         has_sequence_privilege(q.oid, 'select') as may_look, has_sequence_privilege(q.oid, 'update') as may_move
  from pg_class q
  join pg_namespace n on n.oid = q.relnamespace
  join pg_depend p on p.classid = 'pg_class'::regclass and p.objid = q.oid and p.refclassid = 'pg_class'::regclass and p.deptype in ('a', 'i')
  join pg_class t on t.oid = p.refobjid
  join pg_namespace m on m.oid = t.relnamespace
  join pg_attribute a on a.attrelid = t.oid and a.attnum = p.refobjsubid
  where q.relkind = 'S' and n.nspname = current_schema()
) s
order by s.name
