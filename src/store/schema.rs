//! Which schema a connection's unqualified names mean. Everything of the service is in one, and every connection must see the
//! same, whatever a pooler, a role's setting or an address says.

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
    /// For people.
    pub fn or_none(&self) -> String {
        self.name.clone().unwrap_or_else(|| "(none)".to_owned())
    }
}

/// That of this connection, which should be this one.
pub async fn schema_of(connection: &mut PgConnection, should_be: &str) -> Result<SchemaName> {
    let row = sqlx::query_file!("src/store/sql/schema_of.sql", should_be).fetch_one(connection).await?;
    Ok(SchemaName { name: row.schema, mends: row.mends })
}

/// Makes a schema that is named as SQL writes it ([`super::ToDo::MakeSchema`]).
pub async fn make_schema(connection: &mut PgConnection, name: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(format!("create schema {name}"))).execute(connection).await?;
    Ok(())
}

/// Where the functions of the connection's schema notify all nodes of it.
pub async fn wake_channel(connection: &mut PgConnection) -> Result<String> {
    Ok(sqlx::query_file_scalar!("src/store/sql/wake_channel.sql").fetch_one(connection).await?)
}
