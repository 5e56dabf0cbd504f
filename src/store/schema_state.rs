//! The state of the schema as a start finds it: empty, complete, another program's, older, newer or incomplete.
//!
//! [`SchemaState::read`] reads it without changing anything; [`SchemaState::judge`] decides on what was read alone. Tables are in the schema
//! that the connection's search path names first. A release line is what programs of one schema have in common: within it migrations only
//! add, so that a program of the line works with those of a later one. A migration that ends a line is named for the next
//! (`…_line_0_2.sql`), and its name is in sqlx's table.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use sqlx::migrate::{Migration, Migrator};

use super::objects::{objects, tables};
use super::{Result, Unfit};

/// The migrations of versions that were never released.
const BEFORE_THE_FIRST_RELEASE: std::ops::RangeInclusive<i64> = 20_261_101_000_001..=20_261_126_000_800;
/// The beginning of the name of a migration that opens a release line.
const OPENS_A_LINE: &str = "line ";
/// The line of the first release; none of its migrations says so.
const FIRST_LINE: &str = "0.1";

/// The findings. Names are as SQL writes them.
#[derive(Debug, Clone)]
pub struct SchemaState {
    role: String,
    database: String,
    encoding: String,
    search_path: String,
    schema: Option<String>,
    is_there: bool,
    /// True if unqualified names resolve to it. They do not without the right to use it.
    is_current: bool,
    may_make: bool,
    may_create: bool,
    /// Those of ours that are in it.
    objects: BTreeSet<String>,
    /// Another schema of the search path that has Restante's tables.
    elsewhere: Option<String>,
    /// A function of ours that looks for its tables in another schema.
    astray: Option<String>,
    applied: Vec<Applied>,
}

#[derive(Debug, Clone)]
struct Applied {
    version: i64,
    description: String,
    checksum: Vec<u8>,
}

/// The next act of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToDo {
    /// Nothing: every migration of this program is applied.
    Nothing,
    /// Migrations are missing.
    Migrate,
    /// The schema is missing, and this makes it.
    MakeSchema(String),
}

impl SchemaState {
    /// Reads the state of the database that a connection leads to.
    ///
    /// # Errors
    /// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn read(connection: &mut PgConnection, migrations: &Migrator) -> Result<Self> {
        let ours: Vec<String> = objects(migrations.iter()).into_iter().collect();
        let row = sqlx::query_file!("src/store/sql/schema_state.sql", &ours).fetch_one(&mut *connection).await?;
        let mut applied = Vec::new();
        if row.has_migrations && row.is_current {
            let rows = sqlx::query_file!("src/store/sql/applied.sql", i64::MIN).fetch_all(connection).await?;
            applied.extend(rows.into_iter().map(|row| Applied {
                version: row.version,
                description: row.description,
                checksum: row.checksum,
            }));
        }
        Ok(Self {
            role: row.role,
            database: row.database,
            encoding: row.encoding,
            search_path: row.search_path,
            schema: row.schema,
            is_there: row.is_there,
            is_current: row.is_current,
            may_make: row.may_make,
            may_create: row.may_create,
            objects: row.objects.into_iter().collect(),
            elsewhere: row.elsewhere,
            astray: row.astray,
            applied,
        })
    }

    /// Decides whether a program with these migrations may begin here. Returns the act that has to come first.
    ///
    /// # Errors
    /// [`Unfit`]: the database or the schema cannot be used. It says why, and names the remedy.
    pub fn judge(&self, migrations: &Migrator) -> std::result::Result<ToDo, Unfit> {
        if self.encoding != "UTF8" {
            return Err(Unfit::Encoding { database: self.database.clone(), encoding: self.encoding.clone() });
        }
        let schema = self.schema.clone().ok_or_else(|| Unfit::NoSchema { search_path: self.search_path.clone() })?;
        if self.applied.is_empty() {
            return self.judge_what_is_new(schema, migrations);
        }
        self.judge_what_was_applied(&schema, migrations)?;
        let is_applied = |migration: &Migration| self.applied.iter().any(|applied| applied.version == migration.version);
        match migrations.iter().all(is_applied) {
            true => Ok(ToDo::Nothing),
            false if self.may_create => Ok(ToDo::Migrate),
            false => Err(Unfit::MayNotUseSchema { schema, role: self.role.clone() }),
        }
    }

    /// The number of applied migrations that a program with these does not know.
    pub fn unknown(&self, migrations: &Migrator) -> usize {
        self.applied.iter().filter(|applied| !migrations.version_exists(applied.version)).count()
    }

    /// Nothing of ours is recorded.
    fn judge_what_is_new(&self, schema: String, migrations: &Migrator) -> std::result::Result<ToDo, Unfit> {
        if let Some(elsewhere) = self.elsewhere.clone() {
            return Err(Unfit::Elsewhere { schema, elsewhere });
        }
        let role = self.role.clone();
        if !self.is_there {
            return if self.may_make { Ok(ToDo::MakeSchema(schema)) } else { Err(Unfit::MayNotMakeSchema { schema, role }) };
        }
        if !self.is_current {
            return Err(Unfit::MayNotUseSchema { schema, role });
        }
        // A dump has types and functions before its tables, and the names of ours are nobody else's.
        let is_ours = |object: &&String| object.starts_with("function ") || object.starts_with("constraint ");
        if self.objects.iter().any(|object| is_ours(&object)) {
            return Err(Unfit::Half { schema, missing: "the record of what was applied".to_owned() });
        }
        let ours = objects(migrations.iter());
        let taken = self.objects.iter().find(|object| tables(&ours).any(|table| table == *object)).or_else(|| self.objects.first());
        match taken {
            Some(object) => Err(Unfit::Foreign { schema, object: object.clone() }),
            None if self.may_create => Ok(ToDo::Migrate),
            None => Err(Unfit::MayNotUseSchema { schema, role }),
        }
    }

    fn judge_what_was_applied(&self, schema: &str, migrations: &Migrator) -> std::result::Result<(), Unfit> {
        let (schema, known) = (schema.to_owned(), |version| migrations.iter().find(|migration| migration.version == version));
        let unknown: Vec<&Applied> = self.applied.iter().filter(|applied| known(applied.version).is_none()).collect();
        if let Some(old) = unknown.iter().find(|applied| BEFORE_THE_FIRST_RELEASE.contains(&applied.version)) {
            return Err(Unfit::BeforeTheFirstRelease { schema, version: old.version });
        }
        let first = migrations.iter().next().map_or(i64::MAX, |migration| migration.version);
        let begins_with_ours = self.applied.iter().any(|applied| applied.version == first);
        if let Some(foreign) = unknown.iter().find(|applied| !begins_with_ours || applied.version < first) {
            return Err(Unfit::ForeignMigrations { schema, version: foreign.version });
        }
        if let Some(line) = unknown.iter().rev().find_map(|applied| line(&applied.description)) {
            return Err(Unfit::NewerLine { schema, line, own: own_line(migrations) });
        }
        let differs = |applied: &&Applied| known(applied.version).is_some_and(|migration| *migration.checksum != *applied.checksum);
        if let Some(modified) = self.applied.iter().find(differs) {
            return Err(Unfit::Modified { schema, version: modified.version });
        }
        if let Some(function) = self.astray.clone() {
            return Err(Unfit::Renamed { schema, function });
        }
        // A later version may have dropped objects; this one does not know which.
        match self.missing(migrations).filter(|_| unknown.is_empty()) {
            Some(missing) => Err(Unfit::Half { schema, missing }),
            None => Ok(()),
        }
    }

    /// An object that the migrations that were applied have made, and that is not there.
    fn missing(&self, migrations: &Migrator) -> Option<String> {
        let is_applied = |migration: &&Migration| self.applied.iter().any(|applied| applied.version == migration.version);
        objects(migrations.iter().filter(is_applied)).into_iter().find(|object| !self.objects.contains(object))
    }
}

/// The release line of a program with these migrations.
pub fn own_line(migrations: &Migrator) -> String {
    let mut lines = migrations.iter().filter_map(|migration| line(&migration.description));
    lines.next_back().unwrap_or_else(|| FIRST_LINE.to_owned())
}

/// `0.2` of a migration that is called `line 0 2`.
fn line(description: &str) -> Option<String> {
    description.strip_prefix(OPENS_A_LINE).map(|numbers| numbers.replace(' ', "."))
}

#[cfg(test)]
mod tests;
