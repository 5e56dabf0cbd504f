//! The decisions on findings, without a database.

use sqlx::SqlSafeStr;
use sqlx::migrate::MigrationType;

use super::*;

const ONE: i64 = 20_261_128_000_001;
const TWO: i64 = 20_261_128_000_002;
const LATER: i64 = 20_270_101_000_001;

fn migration(version: i64, description: &'static str, text: &'static str) -> Migration {
    Migration::new(version, description.into(), MigrationType::Simple, text.into_sql_str(), false)
}

/// Those of a program.
fn program() -> Migrator {
    let users = "create table users (\n  id bigint,\n  constraint users_have_a_number primary key (id)\n);";
    let chats = "create table chats (id uuid);\ncreate function restante_users() returns void";
    Migrator::with_migrations(vec![migration(ONE, "users", users), migration(TWO, "chats", chats)])
}

/// A schema that is there, and empty.
fn empty() -> SchemaState {
    SchemaState {
        role: "ann".into(),
        database: "shop".into(),
        encoding: "UTF8".into(),
        search_path: "restante".into(),
        schema: Some("restante".into()),
        is_there: true,
        is_current: true,
        may_make: true,
        may_create: true,
        objects: BTreeSet::new(),
        elsewhere: None,
        astray: None,
        applied: Vec::new(),
    }
}

fn with(objects: &[&str], applied: Vec<Applied>) -> SchemaState {
    SchemaState { objects: objects.iter().map(|object| (*object).to_owned()).collect(), applied, ..empty() }
}

/// As this program applies it.
fn applied(version: i64) -> Applied {
    let program = program();
    let migration = program.iter().find(|migration| migration.version == version).unwrap();
    Applied { version, description: migration.description.to_string(), checksum: migration.checksum.to_vec() }
}

fn unknown(version: i64, description: &str) -> Applied {
    Applied { version, description: description.to_owned(), checksum: vec![1] }
}

const WHOLE: [&str; 4] = ["table users", "table chats", "constraint users_have_a_number", "function restante_users"];

#[test]
fn what_is_missing_is_made_and_what_is_there_is_left() {
    let missing = SchemaState { is_there: false, is_current: false, may_create: false, ..empty() };
    assert_eq!(missing.judge(&program()), Ok(ToDo::MakeSchema("restante".into())));
    assert_eq!(empty().judge(&program()), Ok(ToDo::Migrate));
    assert_eq!(with(&WHOLE, vec![applied(ONE), applied(TWO)]).judge(&program()), Ok(ToDo::Nothing));
    let older = with(&["table users", "constraint users_have_a_number"], vec![applied(ONE)]);
    assert_eq!(older.judge(&program()), Ok(ToDo::Migrate));
    let served = SchemaState { may_create: false, ..with(&WHOLE, vec![applied(ONE), applied(TWO)]) };
    assert_eq!(served.judge(&program()), Ok(ToDo::Nothing), "who only serves needs no right to make tables");
}

#[test]
fn a_later_schema_is_good_within_its_line_and_refused_beyond_it() {
    let later = |description| with(&WHOLE, vec![applied(ONE), applied(TWO), unknown(LATER, description)]);
    assert_eq!((later("more").judge(&program()), later("more").unknown(&program())), (Ok(ToDo::Nothing), 1));
    let refused = later("line 0 2").judge(&program()).unwrap_err();
    assert_eq!(refused, Unfit::NewerLine { schema: "restante".into(), line: "0.2".into(), own: "0.1".into() });
    let next = Migrator::with_migrations(vec![migration(ONE, "users", ""), migration(LATER, "line 0 2", "")]);
    assert_eq!(own_line(&next), "0.2");
}

/// Each of these is found in the wild, and none is touched.
#[test]
fn what_is_unfit_is_refused_in_a_sentence_that_names_the_remedy() {
    let role = || SchemaState { may_make: false, may_create: false, ..empty() };
    let old = unknown(20_261_126_000_800, "first few in their order");
    let modified = Applied { checksum: vec![1], ..applied(ONE) };
    let cases = [
        (SchemaState { encoding: "SQL_ASCII".into(), ..empty() }, "encoding 'UTF8' template template0"),
        (SchemaState { schema: None, ..empty() }, "names no schema"),
        (SchemaState { is_there: false, is_current: false, ..role() }, "`create schema restante authorization ann`"),
        (role(), "`grant usage, create on schema restante to ann`"),
        (SchemaState { is_current: false, ..empty() }, "`grant usage, create on schema restante to ann`"),
        (SchemaState { may_create: false, ..with(&WHOLE[..3], vec![applied(ONE)]) }, "`grant usage, create"),
        (SchemaState { elsewhere: Some("public".into()), ..empty() }, "name one of them only, public for"),
        (with(&["table users"], vec![]), "has a table users that is not Restante's, and nothing was changed"),
        (with(&["type kind"], vec![]), "has a type kind that is not"),
        (with(&["table users", "function restante_users"], vec![]), "the record of what was applied is missing"),
        (with(&["table users"], vec![unknown(20_250_101_000_000, "users")]), "it has a migration 20250101000000"),
        (with(&WHOLE, vec![unknown(LATER, "users")]), "is another program's"),
        (with(&WHOLE, vec![unknown(1, "of the application"), applied(ONE), applied(TWO)]), "it has a migration 1)"),
        (with(&["table users"], vec![old.clone()]), "from before 0.1.0 (migration 20261126000800)"),
        (with(&WHOLE, vec![modified, applied(TWO)]), "migration 20261128000001 of the schema restante was applied in another form"),
        (
            SchemaState {
                astray: Some("restante_users has search_path=old, pg_temp".into()),
                ..with(&WHOLE, vec![applied(ONE), applied(TWO)])
            },
            "rename it back",
        ),
        (with(&WHOLE[1..], vec![applied(ONE), applied(TWO)]), "is not whole (table users is missing)"),
        (with(&WHOLE[..1], vec![applied(ONE)]), "is not whole (constraint users_have_a_number is missing)"),
    ];
    for (found, words) in cases {
        let refused = found.judge(&program()).expect_err(words).to_string();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
}
