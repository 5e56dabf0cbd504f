//! The objects that migrations leave in the schema, read from their text. A whole schema has them all. None of them may be there
//! before the first migration. It knows the few forms of statements that our migrations are written in, and a test holds it
//! against a migrated database.

use std::collections::BTreeSet;

use sqlx::migrate::Migration;

/// Words between `create` or `drop` and the kind of the object.
const BETWEEN: [&str; 4] = ["or", "replace", "unique", "constraint"];
const KINDS: [&str; 6] = ["table", "view", "index", "function", "trigger", "type"];

/// The objects that are there after these migrations, such as `table users` or `constraint members_are_users`.
pub fn objects<'m>(migrations: impl Iterator<Item = &'m Migration>) -> BTreeSet<String> {
    let mut objects = BTreeSet::new();
    for migration in migrations {
        migration.sql.as_str().lines().for_each(|line| follow(line, &mut objects));
    }
    objects
}

/// The tables among them.
pub fn tables(objects: &BTreeSet<String>) -> impl Iterator<Item = &str> {
    objects.iter().filter(|object| object.starts_with("table ")).map(String::as_str)
}

fn follow(line: &str, objects: &mut BTreeSet<String>) {
    let words: Vec<&str> = line.split([' ', '(', ';', ',']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        ["create", ref rest @ ..] => objects.extend(named(rest)),
        ["constraint", name, ..] | ["add", "constraint", name, ..] | ["alter", "table", _, "add", "constraint", name, ..] => {
            objects.insert(format!("constraint {name}"));
        }
        ["drop", "constraint", name, ..] | ["alter", "table", _, "drop", "constraint", name, ..] => {
            objects.remove(&format!("constraint {name}"));
        }
        ["drop", ref rest @ ..] => {
            named(rest).map(|object| objects.remove(&object));
        }
        _ => {}
    }
}

/// `table users` of what stands behind `create` or `drop`.
fn named(words: &[&str]) -> Option<String> {
    let words: Vec<&str> = words.iter().copied().skip_while(|word| BETWEEN.contains(word)).collect();
    match words[..] {
        // A view takes a name that no table can have then.
        ["view", name, ..] => Some(format!("table {name}")),
        // A domain takes a name that no type can have then.
        ["domain", name, ..] => Some(format!("type {name}")),
        [kind, name, ..] if KINDS.contains(&kind) => Some(format!("{kind} {name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sqlx::SqlSafeStr;
    use sqlx::migrate::MigrationType;

    use super::*;

    #[test]
    fn what_was_dropped_is_not_there_and_what_was_made_anew_is() {
        let one = "create table users (\n  id bigint,\n  constraint users_have_a_number primary key (id),\n  constraint gone check (true)\n);\n\
                   create unique index by_name on users (name);\ncreate function f(p bigint) returns void\ncreate type kind as enum ('a');";
        let other = "drop function f(bigint);\ncreate or replace function f() returns void\nalter table users drop constraint gone;\n\
                     drop index by_name;\ncreate constraint trigger at_commit after insert on users\nalter table users add constraint more check (true);";
        let migration =
            |version, text: &'static str| Migration::new(version, "x".into(), MigrationType::Simple, text.into_sql_str(), false);
        let left = objects([migration(1, one), migration(2, other)].iter());
        let expected = ["constraint more", "constraint users_have_a_number", "function f", "table users", "trigger at_commit", "type kind"];
        assert_eq!(left.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        assert_eq!(tables(&left).collect::<Vec<_>>(), ["table users"]);
    }
}
