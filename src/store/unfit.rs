//! The reasons why the service does not begin in a database. Each is one sentence that names the remedy. A database that is refused
//! is left as it was found.

/// The reason why a database, or a schema of it, is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Bytes that are no UTF-8 may be in it, and a row that has some can never be read.
    #[error(
        "the database {database} has the encoding {encoding}, and Restante needs UTF8: \
         `create database … encoding 'UTF8' template template0`"
    )]
    Encoding {
        /// The database.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// The search path is empty, or names nothing that tables can be in.
    #[error("the search_path of the connection ({search_path:?}) names no schema that tables could be in: name one, such as public")]
    NoSchema {
        /// As it is set.
        search_path: String,
    },
    /// The schema is missing, and so is the right to make it.
    #[error(
        "the schema {schema}, which the search_path names, is missing, and the role {role} may not make it: \
         `create schema {schema} authorization {role}`"
    )]
    MayNotMakeSchema {
        /// As SQL writes it.
        schema: String,
        /// As SQL writes it.
        role: String,
    },
    /// The schema is there, and the role may not use it, or make anything in it.
    #[error("the role {role} may make nothing in the schema {schema}: `grant usage, create on schema {schema} to {role}`")]
    MayNotUseSchema {
        /// As SQL writes it.
        schema: String,
        /// As SQL writes it.
        role: String,
    },
    /// Restante is there, but not where the search path begins.
    #[error(
        "the search_path begins with the schema {schema}, where nothing of Restante is, and goes on to {elsewhere}, where it is: \
         name one of them only, {elsewhere} for what is there already"
    )]
    Elsewhere {
        /// The schema in which tables would be made.
        schema: String,
        /// The schema in which they are.
        elsewhere: String,
    },
    /// An application's own tables.
    #[error(
        "the schema {schema} has a {object} that is not Restante's, and nothing was changed: give Restante a schema of its own \
         (`?options=-c%20search_path%3Drestante` at the end of DATABASE_URL, docs/operations.md, In the application's database)"
    )]
    Foreign {
        /// The schema.
        schema: String,
        /// One of them, such as `table users`.
        object: String,
    },
    /// An application's own migrations.
    #[error(
        "the table _sqlx_migrations of the schema {schema} is another program's (it has a migration {version}), and nothing was changed: \
         give Restante a schema of its own (`?options=-c%20search_path%3Drestante` at the end of DATABASE_URL, \
         docs/operations.md, In the application's database)"
    )]
    ForeignMigrations {
        /// The schema.
        schema: String,
        /// One that is not ours.
        version: i64,
    },
    /// From before the first release.
    #[error(
        "the schema {schema} was made by a version of Restante from before 0.1.0 (migration {version}), which is not brought up to date: \
         use a new database, or a new schema; its messages are not taken along"
    )]
    BeforeTheFirstRelease {
        /// The schema.
        schema: String,
        /// One of its migrations.
        version: i64,
    },
    /// A migration is not what it was.
    #[error(
        "migration {version} of the schema {schema} was applied in another form than this program has it, as by a version that was never \
         released: use the program that made it, or a new database"
    )]
    Modified {
        /// The schema.
        schema: String,
        /// The version of the migration.
        version: i64,
    },
    /// A later release has changed what this one relies on.
    #[error(
        "the schema {schema} is of the release line {line}, and this program of {own}: it is older than the database, run one of {line} or newer"
    )]
    NewerLine {
        /// The schema.
        schema: String,
        /// That of the schema.
        line: String,
        /// That of this program.
        own: String,
    },
    /// Functions look for their tables where they were made.
    #[error(
        "the functions of the schema {schema} look for their tables in another one ({function}), as when a schema was renamed: \
         rename it back, or restore a dump into a database where the schema has the name that it shall have"
    )]
    Renamed {
        /// The schema.
        schema: String,
        /// One of them, and what is set for it.
        function: String,
    },
    /// Part of it is missing.
    #[error(
        "the schema {schema} is not whole ({missing} is missing): it is being restored, or a restore has failed; \
         wait for it, or restore it again into an empty one"
    )]
    Half {
        /// The schema.
        schema: String,
        /// One of the things.
        missing: String,
    },
    /// Indexes are sorted by an order that is no longer the server's.
    #[error(
        "{collation} was of version {recorded} when it was last looked at, and is of {actual} now, so that indexes may not find what is there \
         (docs/operations.md, A new operating system). Run this in PostgreSQL:{}",
        .mends.iter().map(|statement| format!("\n  {statement};")).collect::<String>()
    )]
    OtherOrder {
        /// `database shop`, or `collation …`.
        collation: String,
        /// Before.
        recorded: String,
        /// Now.
        actual: String,
        /// The statements that rebuild the indexes and record the new version.
        mends: Vec<String>,
    },
}
