-- room: how many connections all nodes may have together, and whether a crash of the machine may cost what is committed; catalogues
-- Superusers have some more of their own, and a role or a database may be given fewer.
select least(
         current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int,
         case when r.rolconnlimit >= 0 then r.rolconnlimit end,
         case when d.datconnlimit >= 0 then d.datconnlimit end
       ) as "connections!",
       current_setting('fsync') = 'off' or current_setting('full_page_writes') = 'off' as "is_fragile!"
from pg_roles r, pg_database d
where r.rolname = session_user and d.datname = current_database()
