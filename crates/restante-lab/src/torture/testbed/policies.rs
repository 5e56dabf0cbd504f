//! The acts of applications and operators in SQL beside the clients: blocks, revocations, and data keys.

use anyhow::Context;

use super::database::Database;

impl Database {
    /// A user blocks another one, or blocks it no more.
    ///
    /// # Errors
    /// When the database refuses or does not answer: it may be done all the same.
    pub async fn block(&self, user: &str, other: &str, blocks: bool) -> anyhow::Result<()> {
        let statement = if blocks { "select restante_block($1, $2)" } else { "select restante_unblock($1, $2)" };
        let done = sqlx::query(statement).bind(user).bind(other).execute(&mut self.connect().await?).await;
        done.context("restante_block").map(drop)
    }

    /// All of these users want one another as contacts.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn befriend(&self, users: &[String]) -> anyhow::Result<()> {
        let all = "select restante_request_contact(a, b) from unnest($1::text[]) a, unnest($1::text[]) b where a <> b";
        let done = sqlx::query(all).bind(users).execute(&mut self.connect().await?).await;
        done.context("restante_request_contact").map(drop)
    }

    /// Revokes the tokens of a user, or those of one of its devices. Returns the time of the revocation in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn revoke(&self, user: &str, device: Option<&str>) -> anyhow::Result<i64> {
        let statement = "select floor(extract(epoch from revoked_at) * 1000)::bigint from restante_revoke($1, $2)";
        let done = sqlx::query_scalar(statement).bind(user).bind(device).fetch_one(&mut self.connect().await?).await;
        done.context("restante_revoke")
    }

    /// Asks for a new data key, and for a sweep that seals everything with it.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn rotate_keys(&self) -> anyhow::Result<()> {
        let done = sqlx::query("select restante_rotate_keys()").execute(&mut self.connect().await?).await;
        done.context("restante_rotate_keys").map(drop)
    }

    /// Makes all data keys, and the rotation, older by so many seconds.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn age_keys(&self, seconds: i32) -> anyhow::Result<()> {
        let statement = "with keys as (update data_keys set made_at = made_at - make_interval(secs => $1))
            update encryption set old_before = old_before - make_interval(secs => $1)";
        let done = sqlx::query(statement).bind(f64::from(seconds)).execute(&mut self.connect().await?).await;
        done.context("data keys cannot be made older").map(drop)
    }

    /// The answer to a question.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_so(&self, question: &'static str) -> anyhow::Result<bool> {
        Ok(sqlx::query_scalar(question).fetch_one(&mut self.connect().await?).await?)
    }
}
