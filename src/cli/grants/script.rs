//! The lines themselves: first a block that gives everything to the owner and refuses roles from which no right can be taken, then what each
//! role loses and gets. Objects are those that the migrations of this version make; nothing else in the schema is touched.

use std::collections::BTreeSet;

use super::quoting::{block, identifier, literal, names};
use super::service::RIGHTS;

/// The functions that applications call.
const FOR_APPLICATIONS: [&str; 3] = ["restante_publish", "restante_recall", "restante_send"];
/// The functions that run with the rights of the owner: those, and what their transactions run when they commit.
const WITH_THE_OWNERS_RIGHTS: [&str; 5] = ["accept_outgoing", "publish_outgoing", "restante_publish", "restante_recall", "restante_send"];
/// The record of migrations, which no migration makes.
const RECORD: &str = "_sqlx_migrations";
/// The tables that have nothing but figures.
const FIGURES: [&str; 2] = ["event_statistics", "statistics"];

/// The roles, by what each is for. Each name is there once.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) schema: String,
    pub(super) owner: String,
    pub(super) service: String,
    pub(super) applications: Vec<String>,
    pub(super) analysts: Vec<String>,
}

impl Roles {
    /// All of them, the owner first.
    pub(super) fn all(&self) -> Vec<&str> {
        [vec![self.owner.as_str()], self.that_log_in()].concat()
    }

    fn that_log_in(&self) -> Vec<&str> {
        let Self { service, applications, analysts, .. } = self;
        [service].into_iter().chain(applications).chain(analysts).map(String::as_str).collect()
    }
}

/// The script, for a schema with these objects (`table users`, `function restante_send`, …).
pub(super) fn script(roles: &Roles, objects: &BTreeSet<String>) -> String {
    let of_kind = |kind: &str| -> Vec<&str> { objects.iter().filter_map(|object| object.strip_prefix(kind)).collect() };
    let tables = [vec![RECORD], of_kind("table ")].concat();
    let (functions, types) = (of_kind("function "), of_kind("type "));
    let mut lines = vec![HEAD.to_owned(), ownership(roles, &tables, &functions, &types)];
    lines.extend(taken(roles, &tables, &functions));
    lines.extend(given(roles, &functions));
    lines.extend(given_in_advance(roles));
    lines.push("commit;".to_owned());
    lines.join("\n") + "\n"
}

const HEAD: &str = "\
-- The roles of Restante, for a superuser, in the database that has the schema. One transaction; it may be run again, and has to be after
-- each `restante migrate`. The first time it waits for the nodes' statements, and they for it.
begin;
set local lock_timeout = '5s';
set local search_path = pg_catalog;";

fn ownership(roles: &Roles, tables: &[&str], functions: &[&str], types: &[&str]) -> String {
    let declared = [
        ("v_schema", "name", literal(&roles.schema)),
        ("v_owner", "name", literal(&roles.owner)),
        ("v_service", "name", literal(&roles.service)),
        ("v_roles", "name[]", names(roles.that_log_in())),
        ("v_tables", "name[]", names(tables.iter().copied())),
        ("v_functions", "name[]", names(functions.iter().copied())),
        ("v_types", "name[]", names(types.iter().copied())),
    ];
    let constants: Vec<String> = declared.map(|(name, kind, value)| format!("  {name} constant {kind} := {value};")).into();
    block(&format!("declare\n{}\n{OWNERSHIP}", constants.join("\n")))
}

const OWNERSHIP: &str = "\
  v_space oid;
  v_has_schema boolean;
  v_name  text;
  v_table name;
  v_other text;
begin
  if not exists (select from pg_roles r where r.rolname = v_owner) then
    execute format('create role %I nologin', v_owner);
  end if;
  if (select r.rolcanlogin from pg_roles r where r.rolname = v_owner) then
    raise exception 'role % may log in: an owner needs no login', v_owner;
  end if;
  foreach v_name in array v_roles loop
    select r.rolname into v_other from pg_roles r
     where r.rolname = any (v_roles || v_owner || array['pg_read_all_data', 'pg_write_all_data', 'pg_execute_server_program', 'pg_write_server_files']::name[])
       and r.rolname <> v_name and pg_has_role(v_name::name, r.oid, 'member')
     order by r.rolname limit 1;
    if exists (select from pg_roles r where r.rolname = v_name and (r.rolsuper or r.rolcreaterole)) then
      raise exception 'role % is a superuser, or may make roles: no right can be taken from it', v_name;
    elsif v_other is not null then
      raise exception 'role % is a member of %, and has its rights too', v_name, v_other;
    end if;
  end loop;
  select n.oid into v_space from pg_namespace n where n.nspname = v_schema;
  select x.name into v_name
    from unnest(v_tables || v_functions) x (name)
   where not exists (select from pg_class c where c.relnamespace = v_space and c.relname = x.name)
     and not exists (select from pg_proc p where p.pronamespace = v_space and p.proname = x.name)
   limit 1;
  if found then
    raise exception 'the schema % has no %: run `restante migrate` first', v_schema, v_name;
  end if;
  -- The owner of a schema may drop what is in it, and make functions that are found before others.
  select exists (select from unnest(v_roles) x (name) where pg_has_role(x.name, n.nspowner, 'member')) into v_has_schema from pg_namespace n where n.oid = v_space;
  if v_has_schema and (select n.nspowner = 'pg_database_owner'::regrole from pg_namespace n where n.oid = v_space) then
    execute format('alter database %I owner to %I', current_database(), v_owner);
  elsif v_has_schema then
    execute format('alter schema %I owner to %I', v_schema, v_owner);
  end if;
  execute format('grant usage, create on schema %I to %I', v_schema, v_owner);
  for v_name in select c.oid::regclass from pg_class c join pg_roles r on r.oid = c.relowner
                 where c.relnamespace = v_space and c.relkind in ('r', 'v') and c.relname = any (v_tables) and r.rolname <> v_owner loop
    execute format('alter table %s owner to %I', v_name, v_owner);
  end loop;
  for v_name in select p.oid::regprocedure from pg_proc p join pg_roles r on r.oid = p.proowner
                 where p.pronamespace = v_space and p.proname = any (v_functions) and r.rolname <> v_owner loop
    execute format('alter function %s owner to %I', v_name, v_owner);
  end loop;
  for v_name in select t.oid::regtype from pg_type t join pg_roles r on r.oid = t.typowner
                 where t.typnamespace = v_space and t.typname = any (v_types) and r.rolname <> v_owner loop
    execute format('alter type %s owner to %I', v_name, v_owner);
  end loop;
  for v_name, v_table in select q.oid::regclass, c.relname from pg_class q join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = q.oid and d.refclassid = 'pg_class'::regclass
                  join pg_class c on c.oid = d.refobjid
                 where q.relkind = 'S' and c.relnamespace = v_space and c.relname = any (v_tables) loop
    foreach v_other in array v_roles loop
      execute format('revoke all on sequence %s from public, %I', v_name, v_other);
    end loop;
    -- Numbers of the audit are not for the service to choose, nor to use up.
    execute format('grant %s on sequence %s to %I', case v_table when 'audit' then 'select' else 'select, update' end, v_name, v_service);
  end loop;
end";

/// The lines that take every right from everybody but the owner.
fn taken(roles: &Roles, tables: &[&str], functions: &[&str]) -> Vec<String> {
    let (schema, from) = (identifier(&roles.schema), listed_roles(roles.that_log_in()));
    vec![
        format!("revoke all on schema {schema} from {from};"),
        format!("revoke create on schema {schema} from public;"),
        format!("revoke all on table{} from public, {from};", listed(roles, tables)),
        format!("revoke all on function{} from public, {from};", listed(roles, functions)),
    ]
}

/// The lines that give to each role what it needs.
fn given(roles: &Roles, functions: &[&str]) -> Vec<String> {
    let schema = identifier(&roles.schema);
    let mut lines = vec![format!("grant usage on schema {schema} to {};", listed_roles(roles.that_log_in()))];
    for function in WITH_THE_OWNERS_RIGHTS {
        lines.push(format!("alter function {schema}.{} security definer;", identifier(function)));
    }
    let service = identifier(&roles.service);
    for (rights, tables) in RIGHTS.iter().filter(|(rights, _)| !rights.is_empty()) {
        lines.push(format!("grant {rights} on table{} to {service};", listed(roles, tables)));
    }
    lines.push(format!("grant execute on function{} to {service};", listed(roles, functions)));
    if !roles.applications.is_empty() {
        let to = listed_roles(roles.applications.iter().map(String::as_str));
        lines.push(format!("grant execute on function{} to {to};", listed(roles, &FOR_APPLICATIONS)));
    }
    if !roles.analysts.is_empty() {
        let views = RIGHTS.iter().flat_map(|(_, tables)| *tables).filter(|table| table.starts_with("analyst_"));
        let shown: Vec<&str> = views.copied().chain(FIGURES).collect();
        let to = listed_roles(roles.analysts.iter().map(String::as_str));
        lines.push(format!("grant select on table{} to {to};", listed(roles, &shown)));
    }
    lines
}

/// The lines for what later migrations make: nodes go on until the lines of that version are run.
fn given_in_advance(roles: &Roles) -> Vec<String> {
    let (owner, schema, service) = (identifier(&roles.owner), identifier(&roles.schema), identifier(&roles.service));
    let of_schema = format!("alter default privileges for role {owner} in schema {schema} grant");
    vec![
        format!("alter default privileges for role {owner} revoke execute on functions from public;"),
        format!("{of_schema} select, insert, update, delete on tables to {service};"),
        format!("{of_schema} select, update on sequences to {service};"),
        format!("{of_schema} execute on functions to {service};"),
    ]
}

fn listed_roles<'a>(roles: impl IntoIterator<Item = &'a str>) -> String {
    roles.into_iter().map(identifier).collect::<Vec<_>>().join(", ")
}

/// Objects of the schema, some to a line.
fn listed(roles: &Roles, objects: &[&str]) -> String {
    let schema = identifier(&roles.schema);
    let lines = objects.chunks(4).map(|line| {
        let line: Vec<String> = line.iter().map(|object| format!("{schema}.{}", identifier(object))).collect();
        format!("\n  {}", line.join(", "))
    });
    lines.collect::<Vec<_>>().join(",")
}
