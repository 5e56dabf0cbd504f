//! The order of text is not PostgreSQL's but the operating system's (glibc) or a library's (ICU), and another version of either
//! may have another. An index that was sorted by the one and is searched by the other does not find what is in it: inboxes look
//! empty, and users are made twice. PostgreSQL records the version and only warns.
//!
//! Our own indexes are sorted by bytes (`collate "C"`). So this finds only what somebody has added, or restored otherwise.

use sqlx::PgConnection;
use tracing::warn;

use super::{Result, Unfit};

/// A collation whose order may be another now.
#[derive(Debug, Clone)]
pub struct ChangedCollation {
    name: String,
    recorded: String,
    actual: String,
    /// The statement that records the new version.
    mends: String,
    /// The indexes of the schema that are sorted by it.
    indexes: Vec<String>,
}

/// Reads the collations whose version has changed: those of the database, and those that our schema's indexes are sorted by.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Failed`](super::Error::Failed): a defect.
pub async fn changed_collations(connection: &mut PgConnection) -> Result<Vec<ChangedCollation>> {
    let rows = sqlx::query_file!("src/store/sql/collations.sql").fetch_all(connection).await?;
    let changed = rows.into_iter().map(|row| ChangedCollation {
        name: row.name,
        recorded: row.recorded,
        actual: row.actual,
        mends: row.mends,
        indexes: row.indexes,
    });
    Ok(changed.collect())
}

/// Refuses a collation that an index of ours is sorted by. One that none is sorted by is another application's affair.
///
/// # Errors
/// [`Unfit::OtherOrder`]: an index of ours is sorted by one of these collations.
pub fn judge_collations(changed: Vec<ChangedCollation>) -> std::result::Result<(), Unfit> {
    for ChangedCollation { name, recorded, actual, mends, indexes } in changed {
        if indexes.is_empty() {
            warn!(
                collation = name,
                recorded, actual, mends, "the order of text has changed under the database; no index of Restante depends on it"
            );
            continue;
        }
        let reindex = indexes.into_iter().map(|index| format!("reindex index concurrently {index}"));
        return Err(Unfit::OtherOrder { collation: name, recorded, actual, mends: reindex.chain([mends]).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(indexes: &[&str]) -> Vec<ChangedCollation> {
        let indexes = indexes.iter().map(|index| (*index).to_owned()).collect();
        let [name, recorded, actual, mends] =
            ["database shop", "2.31", "2.36", "alter database shop refresh collation version"].map(str::to_owned);
        vec![ChangedCollation { name, recorded, actual, mends, indexes }]
    }

    #[test]
    fn another_order_is_refused_only_where_an_index_depends_on_it() {
        assert_eq!(judge_collations(changed(&[])), Ok(()));
        let refused = judge_collations(changed(&["public.by_name", "public.by_title"])).unwrap_err().to_string();
        let statements: Vec<&str> = refused.lines().skip(1).collect();
        assert_eq!(
            statements,
            [
                "  reindex index concurrently public.by_name;",
                "  reindex index concurrently public.by_title;",
                "  alter database shop refresh collation version;"
            ]
        );
    }
}
