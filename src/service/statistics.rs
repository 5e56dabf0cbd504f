//! Figures of delivery, for operators: those of some hours in groups, and those of one event. Publishers get those of their events. They
//! come from what the job `statistics` has counted, and are as old as that: each answer says how far it is true.

use time::OffsetDateTime;
use tracing::info;

use super::{Refusal, Service};
use crate::domain::{EventFigures, EventId, ExternalId, FigureGroup, GroupBy, HourSpan};
use crate::store::{StatisticsClock, StatisticsQuery, page_of};

/// A question for figures.
#[derive(Debug, Clone, Default)]
pub struct StatisticsRequest {
    /// Where it begins. None: a day before its end.
    pub from: Option<OffsetDateTime>,
    /// Where it ends. None: now.
    pub to: Option<OffsetDateTime>,
    /// The rule that makes groups.
    pub by: GroupBy,
    /// The place behind which the page begins: `next` of the page before.
    pub after: Option<String>,
    /// Groups, at most.
    pub groups_max: u16,
}

/// A part of the groups, in the order of their keys.
#[derive(Debug)]
pub struct StatisticsPage {
    /// The hours.
    pub span: HourSpan,
    /// All that was committed before is in the figures.
    pub as_of: OffsetDateTime,
    /// The groups.
    pub groups: Vec<FigureGroup>,
    /// More follow behind this key; none: these were the last.
    pub next: Option<String>,
}

/// The reason for which there are no figures.
#[derive(Debug)]
pub enum NoStatistics {
    /// The span is empty or too long, in words.
    BadSpan(String),
    /// The database was not asked, or did not answer.
    Refused(Refusal),
}

impl Service {
    /// The figures of the hours that a span touches, in groups.
    ///
    /// # Errors
    /// [`NoStatistics::BadSpan`]: it is empty, or longer than 31 days. Refused: [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn statistics(&self, admin: &ExternalId, request: StatisticsRequest) -> Result<StatisticsPage, NoStatistics> {
        const WHAT: &str = "reading figures of delivery";
        let StatisticsRequest { from, to, by, after, groups_max } = request;
        let StatisticsClock { as_of, now } = self.ask(admin, WHAT, self.store.statistics_clock()).await?;
        let span = HourSpan::touched(from, to, now).map_err(NoStatistics::BadSpan)?;
        let query = StatisticsQuery { span, by, after, groups_max: groups_max.saturating_add(1) };
        let groups = self.ask(admin, WHAT, self.store.statistics(&query)).await?;
        let (groups, next) = page_of(groups, groups_max, |group: &FigureGroup| group.key.clone());
        info!(admin.id = %admin, items = groups.len(), action = "show", "statistics");
        Ok(StatisticsPage { span, as_of, groups, next })
    }

    /// The figures of an event, and the time up to which they are true. It checks no rights. None: it is no event, or nothing of it was
    /// counted yet, or it has expired a day ago.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn event_figures(&self, caller: &ExternalId, event: EventId) -> Result<Option<(OffsetDateTime, EventFigures)>, Refusal> {
        let read = async {
            let StatisticsClock { as_of, .. } = self.store.statistics_clock().await?;
            Ok(self.store.event_figures(event).await?.map(|figures| (as_of, figures)))
        };
        self.ask(caller, "reading figures of an event", read).await
    }
}

impl From<Refusal> for NoStatistics {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
