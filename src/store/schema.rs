//! The schema that a connection's unqualified names mean. All tables and functions of the service are in one schema. Every connection
//! must see that schema, whatever a pooler, a role's setting or an address says.

use sqlx::{AssertSqlSafe, PgConnection};

use super::Result;

/// The schema of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName {
    /// As SQL writes it; none: the search path leads nowhere.
    pub name: Option<String>,
    /// The statement that gives the connection's role the schema that was asked for.
    pub mends: String,
}

impl SchemaName {
    /// The name for people to read.
    pub fn or_none(&self) -> String {
        self.name.clone().unwrap_or_else(|| "(none)".to_owned())
    }
}

/// Reads the schema of this connection. `should_be` is the schema that it should have.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Failed`](super::Error::Failed): a defect.
pub async fn schema_of(connection: &mut PgConnection, should_be: &str) -> Result<SchemaName> {
    let row = sqlx::query_file!("src/store/sql/schema_of.sql", should_be).fetch_one(connection).await?;
    Ok(SchemaName { name: row.schema, mends: row.mends })
}

/// Makes a schema that is named as SQL writes it ([`super::ToDo::MakeSchema`]).
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
/// [`Failed`](super::Error::Failed): a defect.
pub async fn make_schema(connection: &mut PgConnection, name: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(format!("create schema {name}"))).execute(connection).await?;
    Ok(())
}

/// The channel on which the functions of the connection's schema notify all nodes of that schema.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Failed`](super::Error::Failed): a defect.
pub async fn wake_channel(connection: &mut PgConnection) -> Result<String> {
    Ok(sqlx::query_file_scalar!("src/store/sql/wake_channel.sql").fetch_one(connection).await?)
}
