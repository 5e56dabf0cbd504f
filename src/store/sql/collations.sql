-- collations: those whose order may be another since their version was recorded, and the indexes of the schema that are sorted by them; catalogues
with ours as (
  select i.indexrelid as index, i.indcollation::oid[] as collations, format('%I.%I', n.nspname, c.relname) as name
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = current_schema()
), changed as (
  -- 100 is the database's own, "default".
  select 100::oid as oid, format('database %I', d.datname) as name, d.datcollversion as recorded, pg_database_collation_actual_version(d.oid) as actual,
         format('alter database %I refresh collation version', d.datname) as mends
  from pg_database d where d.datname = current_database()
  union all
  select k.oid, format('collation %I.%I', n.nspname, k.collname), k.collversion, pg_collation_actual_version(k.oid),
         format('alter collation %I.%I refresh version', n.nspname, k.collname)
  from pg_collation k join pg_namespace n on n.oid = k.collnamespace
  where k.oid <> 100
    and (exists (select from ours where k.oid = any (ours.collations))
         or exists (select from ours join pg_depend p on p.classid = 'pg_class'::regclass and p.objid = ours.index
                     where p.refclassid = 'pg_collation'::regclass and p.refobjid = k.oid))
)
select c.name as "name!", c.recorded as "recorded!", c.actual as "actual!", c.mends as "mends!",
       coalesce((select array_agg(ours.name order by ours.name) from ours
                  where c.oid = any (ours.collations)
                     or exists (select from pg_depend p where p.classid = 'pg_class'::regclass and p.objid = ours.index
                                  and p.refclassid = 'pg_collation'::regclass and p.refobjid = c.oid)), '{}') as "indexes!"
from changed c where c.recorded <> c.actual
