//! Delivery in figures: whatever happens to rows is counted once, in its hour and for its event, and nothing of it by looking at the queue.

mod counting;
mod told;

use restante::store::Store;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Database, database};

async fn start() -> (Database, PgPool, Store) {
    let db = database().await;
    let pool = db.pool(4).await;
    let store = Store::new(pool.clone());
    (db, pool, store)
}

async fn run(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// Counts all that the journal has, as the job does. Returns the rows that it told of.
async fn count_all(store: &Store) -> usize {
    let mut moves = 0;
    loop {
        let page = store.count_journal(None).await.unwrap();
        moves += page.moves;
        if page.lines == 0 {
            return moves;
        }
    }
}

/// The figures of all hours together: accepted, recipients, delivered, read, ended.
async fn figures(pool: &PgPool) -> [i64; 5] {
    let sums = "select array[coalesce(sum(accepted), 0), coalesce(sum(recipients), 0), coalesce(sum(delivered), 0), coalesce(sum(read), 0),
                             coalesce(sum((select sum(e) from unnest(ended) e)), 0)]::bigint[] from statistics";
    sqlx::query_scalar::<_, Vec<i64>>(sums).fetch_one(pool).await.unwrap().try_into().unwrap()
}

/// The same as the queue has it, where nothing was removed and nothing put back.
async fn of_the_queue(pool: &PgPool) -> [i64; 5] {
    let counts = "select array[(select count(*) from messages), count(*), count(*) filter (where status in ('delivered', 'read')),
                               count(*) filter (where status = 'read'), count(*) filter (where status in ('failed', 'expired'))] from message_status";
    sqlx::query_scalar::<_, Vec<i64>>(counts).fetch_one(pool).await.unwrap().try_into().unwrap()
}

/// The rows that ended for each reason, by class.
async fn ends(pool: &PgPool) -> Vec<String> {
    let ends = "select s.class || ' ' || r.reason || ' ' || sum(s.ended[r.n]) from statistics s, unnest(enum_range(null::ended_reason)) with ordinality r (reason, n)
                 where s.ended[r.n] > 0 group by s.class, r.reason order by 1";
    sqlx::query_scalar(ends).fetch_all(pool).await.unwrap()
}
