-- schema_state: what a start finds: encoding, rights, the schema that the search path names first, and which of these objects are in it; catalogues
with path as (
  select case when p.m[1] like '"%' then replace(substr(p.m[1], 2, length(p.m[1]) - 2), '""', '"') else lower(btrim(p.m[1])) end as name, p.place
  from regexp_matches(current_setting('search_path'), '("(?:[^"]|"")*"|[^",\s][^",]*)', 'g') with ordinality p (m, place)
), named as (
  select (case p.name when '$user' then current_user::text else p.name end)::name as name
  from path p
  where p.name not in ('', 'pg_temp', 'pg_catalog') and (p.name <> '$user' or exists (select from pg_namespace n where n.nspname = current_user))
  order by p.place limit 1
), here as (
  select n.oid, n.nspname from named join pg_namespace n on n.nspname = named.name
), objects as (
  select case when c.relkind in ('i', 'I') then 'index ' else 'table ' end || c.relname as name
  from here join pg_class c on c.relnamespace = here.oid
  where not exists (select from pg_index i where i.indexrelid = c.oid and not i.indisvalid)
  union all
  select 'constraint ' || k.conname from here join pg_constraint k on k.connamespace = here.oid where k.convalidated
  union all
  select 'trigger ' || t.tgname from here join pg_class c on c.relnamespace = here.oid join pg_trigger t on t.tgrelid = c.oid
  union all
  select 'function ' || p.proname from here join pg_proc p on p.pronamespace = here.oid
  union all
  select 'type ' || t.typname from here join pg_type t on t.typnamespace = here.oid where t.typtype in ('e', 'd')
)
select quote_ident(current_user) as "role!", quote_ident(d.datname) as "database!", pg_encoding_to_char(d.encoding)::text as "encoding!",
       current_setting('search_path') as "search_path!",
       (select quote_ident(named.name) from named) as "schema?",
       exists (select from here) as "is_there!",
       exists (select from here where here.nspname = current_schema()) as "is_current!",
       has_database_privilege(d.oid, 'create') as "may_make!",
       coalesce((select has_schema_privilege(here.oid, 'create') from here), false) as "may_create!",
       exists (select from here join pg_class c on c.relnamespace = here.oid and c.relname = '_sqlx_migrations') as "has_migrations!",
       coalesce((select array_agg(distinct o.name) from objects o where o.name = any ($1::text[])), '{}') as "objects!",
       (select p.proname || ' has ' || c.setting from here join pg_proc p on p.pronamespace = here.oid, unnest(p.proconfig) c (setting)
         where 'function ' || p.proname = any ($1) and c.setting like 'search\_path=%'
           and c.setting <> 'search_path=' || quote_ident(here.nspname) || ', pg_temp'
         order by 1 limit 1) as "astray?",
       (select quote_ident(n.nspname) from pg_namespace n
         where n.nspname = any (current_schemas(false)) and n.nspname <> (select named.name from named)
           and 3 = (select count(*) from pg_class c where c.relnamespace = n.oid and c.relname in ('message_status', 'inboxes', '_sqlx_migrations'))
         limit 1) as "elsewhere?"
from pg_database d where d.datname = current_database()
