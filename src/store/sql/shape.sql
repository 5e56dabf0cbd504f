-- shape: how many relations, constraints, triggers and functions the schema has, so that one that is being restored is told from a whole one; catalogues
select (select count(*) from pg_class c where c.relnamespace = n.oid and not exists (select from pg_index i where i.indexrelid = c.oid and not i.indisvalid)) as "relations!",
       (select count(*) from pg_constraint c where c.connamespace = n.oid and c.convalidated) as "constraints!",
       (select count(*) from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = n.oid) as "triggers!",
       (select count(*) from pg_proc p where p.pronamespace = n.oid) as "functions!"
from pg_namespace n
where n.nspname = current_schema()
