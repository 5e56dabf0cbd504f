//! The application's own rule for direct messages: a function that it defines in its database.

use sqlx::{Connection, PgConnection};

use super::{Result, Store};
use crate::domain::{ChatId, ExternalId, UserId};

/// The time that the function may take.
const TIMEOUT: &str = "1s";

impl Store {
    /// The answer of the function for this sender and the other member of this direct chat, or else the user of this name. None: there is no such
    /// function, it has failed, has said nothing, or took longer than a second.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn may_send(&self, sender: UserId, chat: Option<ChatId>, other: Option<&ExternalId>) -> Result<Option<bool>> {
        let mut lent = self.lend().await?;
        let answered = self.ask_in_time(lent.connection()?, sender, chat, other).await;
        lent.answered(answered)
    }

    async fn ask_in_time(
        &self,
        connection: &mut PgConnection,
        sender: UserId,
        chat: Option<ChatId>,
        other: Option<&ExternalId>,
    ) -> Result<Option<bool>> {
        let asked = async {
            let mut transaction = connection.begin().await?;
            sqlx::query_file!("src/store/sql/statement_timeout.sql", TIMEOUT).fetch_one(&mut *transaction).await?;
            let (chat, other) = (chat.map(|chat| chat.0), other.map(ExternalId::as_str));
            let may = sqlx::query_file_scalar!("src/store/sql/may_send.sql", sender.0, chat, other).fetch_one(&mut *transaction).await?;
            transaction.commit().await?;
            Ok::<_, sqlx::Error>(may)
        };
        Ok(self.stall_detector.answer(asked).await?)
    }
}
