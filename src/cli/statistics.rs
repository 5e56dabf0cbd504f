//! `restante statistics`: what was accepted, and what became of it, in figures. It asks the database itself, or a running service.

use super::backend::{Backend, Source};
use super::dead_letters::since;
use super::exit::{Exit, UsageError};
use super::pages::{More, PAGE, Page, in_pages, print_row};
use super::screen::{print, printable, printable_json, say};
use crate::domain::{EventId, GroupBy, HourSpan, MessageId};
use crate::protocol::{EventFiguresData, StatisticsData, Timestamp};
use crate::store::{self, Store};
use restante_client::{EventFigures, Figures, HttpError, Percentiles, Statistics, StatisticsQuery};

pub const ABOUT: &str = "\
Show what was accepted, and what became of it, in figures.

Each line is a group: the messages and events that were accepted, the rows of their recipients, those that were delivered, read, or ended \
otherwise, by reason, and the time to delivery within which 50, 95 and 99 of 100 were. What happened counts in the hour in which it \
happened, so a span covers whole hours. With --event it shows one event. The figures are counted beside the queue, a moment later: the last \
line says how far they are true.

With --url it asks a running service, with a token of the scope `admin` (--token, or one made with JWT_SECRET or the secret in \
the data directory). Without it works on the database: that of DATABASE_URL, or the service's own.

Examples:
  restante statistics
  restante statistics --from 7d --by type --limit 20
  restante statistics --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z --by hour --json --url http://127.0.0.1:8080
  restante statistics --event 01a1fc86-aafd-769c-a408-197d07aac76a";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// From then on: a time (RFC 3339), or 24h for the last day; a day before the end, unless it is named
    #[arg(long, value_parser = since, value_name = "TIME")]
    from: Option<String>,
    /// Until then; until now, unless it is named
    #[arg(long = "to", value_parser = since, value_name = "TIME")]
    until: Option<String>,
    /// The groups: by class, type or hour
    #[arg(long, value_parser = group_by, default_value = "class", value_name = "WHAT")]
    by: GroupBy,
    /// One event instead
    #[arg(long, value_parser = event_id, conflicts_with_all = ["from", "until"], value_name = "ID")]
    event: Option<EventId>,
    /// At most so many groups
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
///
/// # Errors
/// When the service or the database refuses or does not answer.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let backend = Backend::open(&args.source).await?;
    let done = match args.event {
        Some(event) => show(&backend, event, args.json).await,
        None => list(&backend, &args).await,
    };
    backend.close().await;
    done
}

async fn list(backend: &Backend, args: &Args) -> anyhow::Result<Exit> {
    if !args.json {
        print(&heading(args.by))?;
    }
    let mut said = String::new();
    let page = async |rows_max, after| {
        let (from, to, by) = (args.from.clone(), args.until.clone(), Some(args.by.as_str().to_owned()));
        let page = backend.statistics(&StatisticsQuery { from, to, by, after, limit: Some(rows_max) }).await?;
        said = printable(&format!("restante: from {} to {}, true as of {}", page.from, page.to, page.as_of));
        Ok(Page { rows: page.groups, next: page.next })
    };
    match in_pages(args.limit, page, |group| print_row(&group, args.json, line)).await? {
        More::Nothing => say(&said),
        more => more.say("raise --limit, or narrow it down"),
    }
    Ok(Exit::Done)
}

fn heading(by: GroupBy) -> String {
    format!(
        "{:<24} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}  ended",
        by.as_str(),
        "accepted",
        "recipients",
        "delivered",
        "read",
        "p50",
        "p95",
        "p99"
    )
}

fn line(group: &Figures) -> String {
    let Figures { accepted, recipients, delivered, read, ended, time_to_delivery_ms, .. } = group;
    let ended: Vec<_> = ended.iter().map(|(reason, rows)| format!("{reason} {rows}")).collect();
    let [p50, p95, p99] = times(time_to_delivery_ms.as_ref());
    let key = printable(group.key()).to_string();
    let text =
        format!("{key:<24} {accepted:>10} {recipients:>10} {delivered:>10} {read:>10} {p50:>10} {p95:>10} {p99:>10}  {}", ended.join(", "));
    text.trim_end().to_owned()
}

/// The percentiles as they are shown; a hyphen where nothing was delivered.
fn times(percentiles: Option<&Percentiles>) -> [String; 3] {
    let Some(Percentiles { p50, p95, p99 }) = percentiles else { return [(); 3].map(|()| "-".to_owned()) };
    [p50, p95, p99].map(|ms| if *ms < 1_000.0 { format!("{ms} ms") } else { format!("{:.1} s", ms / 1_000.0) })
}

async fn show(backend: &Backend, event: EventId, json: bool) -> anyhow::Result<Exit> {
    let Some(figures) = backend.event_figures(event).await? else { anyhow::bail!("there are no figures of an event {event}") };
    if json {
        print(&printable_json(&serde_json::to_string(&figures)?))?;
        return Ok(Exit::Done);
    }
    let [p50, p95, p99] = times(figures.time_to_delivery_ms.as_ref());
    let time = |at: Option<String>| at.unwrap_or_else(|| "-".to_owned());
    print(&format!("recipients       {}", figures.recipients))?;
    print(&format!("delivered        {}, read {}", figures.delivered, figures.read))?;
    for (reason, rows) in &figures.ended {
        print(&printable(&format!("ended            {rows}, {reason}")))?;
    }
    print(&format!("time to delivery p50 {p50}, p95 {p95}, p99 {p99}"))?;
    print(&printable(&format!("first delivery   {}", time(figures.first_delivered_at))))?;
    print(&printable(&format!("last delivery    {}", time(figures.last_delivered_at))))?;
    say(&printable(&format!("restante: true as of {}", figures.as_of)));
    Ok(Exit::Done)
}

impl Backend {
    /// A page of the groups.
    async fn statistics(&self, query: &StatisticsQuery) -> anyhow::Result<Statistics> {
        match self {
            Self::Service(http, token) => Ok(http.statistics(token, query).await?),
            Self::Database(store, _) => statistics(store, query).await,
        }
    }

    /// The figures of an event; none when there are none.
    async fn event_figures(&self, event: EventId) -> anyhow::Result<Option<EventFigures>> {
        let store = match self {
            Self::Service(http, token) => {
                return match http.event_figures(token, event).await {
                    Err(HttpError::Rejected { status: 404, .. }) => Ok(None),
                    found => Ok(Some(found?)),
                };
            }
            Self::Database(store, _) => store,
        };
        let as_of = store.statistics_clock().await?.as_of;
        let found = store.event_figures(event).await?;
        found.map(|figures| as_the_client_reads_it(&EventFiguresData::new(Some(event), as_of.into(), figures))).transpose()
    }
}

async fn statistics(store: &Store, query: &StatisticsQuery) -> anyhow::Result<Statistics> {
    let time = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse).map(|at| at.0);
    let clock = store.statistics_clock().await?;
    let span = HourSpan::touched(time(&query.from), time(&query.to), clock.now).map_err(UsageError)?;
    let by = query.by.as_deref().and_then(GroupBy::parse).unwrap_or_default();
    let rows_max = query.limit.unwrap_or(PAGE).min(PAGE);
    let asked = store::StatisticsQuery { span, by, after: query.after.clone(), groups_max: rows_max + 1 };
    let (groups, next) = store::page_of(store.statistics(&asked).await?, rows_max, |group| group.key.clone());
    as_the_client_reads_it(&StatisticsData::new(span, by, clock.as_of.into(), groups, next))
}

fn as_the_client_reads_it<T: serde::de::DeserializeOwned>(data: &impl serde::Serialize) -> anyhow::Result<T> {
    Ok(serde_json::from_value(serde_json::to_value(data)?)?)
}

fn group_by(text: &str) -> Result<GroupBy, String> {
    GroupBy::parse(text).ok_or_else(|| "class, type or hour".to_owned())
}

fn event_id(text: &str) -> Result<EventId, String> {
    text.parse().map(MessageId).map_err(|_| "an event's id is a UUID".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_one_line_and_what_strangers_chose_moves_no_cursor() {
        let figures = serde_json::json!({
            "type": "a\u{1b}[2Jb", "accepted": 3, "recipients": 4, "delivered": 2, "read": 1, "ended": {"expired": 1, "capped": 2},
            "timeToDeliveryMs": {"p50": 1.5, "p95": 999.0, "p99": 61_500.0}
        });
        let shown = line(&serde_json::from_value(figures).unwrap());
        assert!(!shown.contains('\u{1b}') && shown.contains("1.5 ms") && shown.contains("61.5 s"), "{shown}");
        assert!(shown.ends_with("capped 2, expired 1"), "{shown}");
    }
}
