//! The job's page: each line of the journal counts once, whoever is killed and whenever a transaction commits.

use restante::store::Store;
use sqlx::{Connection, PgConnection, PgPool};

use super::{count_all, ends, figures, of_the_queue, run, start};
use crate::support::fixtures::assert_consistent;
use crate::support::{direct, fill, group, number, users};

/// Acks what waits for a user in a chat, up to this number of its inbox.
async fn ack(pool: &PgPool, user: &str, seqs: std::ops::RangeInclusive<i64>) {
    let user = users(pool, &[user]).await[0];
    let (first, last) = seqs.into_inner();
    run(
        pool,
        &format!(
            "select restante_settle(array_fill({user}::bigint, array[n]), array_fill('chat'::inbox_class, array[n]), array(select generate_series({first}, {last}))::bigint[],
                                    '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}') from (select {last} - {first} + 1 as n) q"
        ),
    )
    .await;
}

#[tokio::test]
async fn a_message_counts_when_it_is_stored_acked_read_and_ended_with_each_of_its_rows() {
    let (_db, pool, store) = start().await;
    let chat = group(&pool, &["anna", "ben", "cleo", "dora"]).await;
    let alone = direct(&pool, "anna", "anna").await;
    fill(&pool, chat, "anna", 4).await;
    fill(&pool, direct(&pool, "anna", "ben").await, "anna", 1).await;
    fill(&pool, alone, "anna", 2).await;
    ack(&pool, "ben", 1..=2).await;
    ack(&pool, "ben", 1..=3).await;
    let [anna, ben, cleo, dora] = users(&pool, &["anna", "ben", "cleo", "dora"]).await.try_into().unwrap();
    // One that was acked before, and one that was not.
    run(&pool, &format!("select restante_read('{{{ben},{cleo}}}', '{{{chat},{chat}}}', '{{3,2}}', 100)")).await;
    run(&pool, &format!("select restante_attempt('{{{cleo}}}', '{{chat}}', '{{3}}', '{{no}}', '{{true}}', 5)")).await;
    run(&pool, &format!("select restante_remove_members('{chat}', {anna}, '{{{dora}}}')")).await;
    assert_eq!(figures(&pool).await, [0; 5], "nothing is counted by those who move rows");
    assert!(count_all(&store).await > 0);
    assert_eq!(figures(&pool).await, [7, 13, 5, 5, 5]);
    assert_eq!(figures(&pool).await, of_the_queue(&pool).await);
    assert_eq!(ends(&pool).await, ["chat failed 1", "chat left 4"]);
    let delays = "select sum(d)::bigint from statistics, unnest(delays) d";
    assert_eq!(number(&pool, delays).await, 5, "each delivery has its time");
    assert_eq!(count_all(&store).await, 0);
    assert_eq!(number(&pool, "select count(*) from event_statistics").await, 0);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_page_whose_node_is_killed_has_counted_nothing_and_the_next_counts_once() {
    let (db, pool, store) = start().await;
    let chat = direct(&pool, "anna", "ben").await;
    fill(&pool, chat, "anna", 5).await;
    ack(&pool, "ben", 1..=5).await;
    let mut killed = PgConnection::connect_with(&db.options()).await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut killed).await.unwrap();
    sqlx::raw_sql("begin; select restante_count_journal('-infinity', 500, 5000, 50)").execute(&mut killed).await.unwrap();
    // Its lines are left to it, and nobody waits.
    let page = store.count_journal(None).await.unwrap();
    assert_eq!((page.lines, page.moves), (0, 0));
    sqlx::query("select pg_terminate_backend($1, 10000)").bind(pid).execute(&pool).await.unwrap();
    assert_eq!(figures(&pool).await, [0; 5]);
    assert_eq!(count_all(&store).await, 10);
    assert_eq!(figures(&pool).await, [5, 5, 5, 0, 0]);
}

#[tokio::test]
async fn two_nodes_that_count_at_once_count_each_line_once() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "anna", "ben").await;
    for n in 1..=40 {
        fill(&pool, chat, "anna", 1).await;
        ack(&pool, "ben", n..=n).await;
    }
    let count = async |store: &Store| {
        let mut lines = 0;
        loop {
            // Small pages, so that the two meet.
            let page: i32 = sqlx::query_scalar("select lines from restante_count_journal('-infinity', 3, 5000, 50)")
                .fetch_one(store.pool())
                .await
                .unwrap();
            lines += page;
            if page == 0 {
                return lines;
            }
        }
    };
    let (one, other) = tokio::join!(count(&store), count(&store));
    assert_eq!(one + other + i32::try_from(count_all(&store).await).unwrap(), 80);
    assert_eq!(figures(&pool).await, [40, 40, 40, 0, 0]);
}

#[tokio::test]
async fn a_transaction_that_commits_after_later_ones_were_counted_counts_too() {
    let (db, pool, store) = start().await;
    let chat = direct(&pool, "anna", "ben").await;
    fill(&pool, chat, "anna", 2).await;
    let ben = users(&pool, &["ben"]).await[0];
    let mut late = PgConnection::connect_with(&db.options()).await.unwrap();
    let begun = format!(
        "begin; select restante_settle('{{{ben}}}', '{{chat}}', '{{1}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(begun)).execute(&mut late).await.unwrap();
    ack(&pool, "ben", 2..=2).await;
    let page = store.count_journal(None).await.unwrap();
    assert_eq!(figures(&pool).await, [2, 2, 1, 0, 0]);
    sqlx::raw_sql("commit").execute(&mut late).await.unwrap();
    let behind = store.count_journal(page.last_at).await.unwrap();
    assert_eq!(behind.lines, 0, "it is older than what was counted last");
    assert!(store.statistics_clock().await.unwrap().as_of < page.last_at.unwrap(), "figures are not said to be true beyond it");
    assert_eq!(count_all(&store).await, 1);
    assert_eq!(figures(&pool).await, [2, 2, 2, 0, 0]);
}

#[tokio::test]
async fn an_hour_has_fifty_types_and_what_a_client_invents_beyond_them_is_counted_together() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "anna", "ben").await;
    let anna = users(&pool, &["anna"]).await[0];
    let send = |from: i64, to: i64| {
        format!(
            "select restante_accept(array_agg(gen_random_uuid()), array_agg('{chat}'::uuid), array_agg({anna}::bigint), array_agg('invented ' || n), array_agg('x'::text), array_agg(null::text), array_agg(null::timestamptz)) from generate_series({from}, {to}) n"
        )
    };
    run(&pool, &send(1, 30)).await;
    count_all(&store).await;
    run(&pool, &send(1, 400)).await;
    count_all(&store).await;
    run(&pool, &send(20, 60)).await;
    count_all(&store).await;
    let hours = number(&pool, "select count(distinct hour) from statistics").await;
    assert!(number(&pool, "select count(*) from statistics").await <= 51 * hours);
    assert!(number(&pool, "select count(*) from statistics where message_type = 'restante:other'").await >= 1);
    assert_eq!(figures(&pool).await[0], 471, "all are counted");
}

#[tokio::test]
async fn a_message_that_was_removed_before_it_was_counted_is_accepted_and_in_no_other_figure() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "anna", "ben").await;
    fill(&pool, chat, "anna", 3).await;
    let delivered = "insert into statistics_journal (at, kind, messages) select now(), 'delivered', array_agg(id) from messages";
    run(&pool, delivered).await;
    run(
        &pool,
        "begin; set local session_replication_role = replica; delete from message_status; delete from messages where seq = 2; commit",
    )
    .await;
    let page = store.count_journal(None).await.unwrap();
    assert_eq!((page.moves, page.lost), (6, 1));
    assert_eq!(figures(&pool).await, [3, 3, 2, 0, 0]);
}

/// A line without an inbox names rows of several, or its function does not know it.
#[tokio::test]
async fn a_line_that_names_no_inbox_is_counted_in_those_of_its_messages() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "anna", "ben").await;
    fill(&pool, chat, "anna", 2).await;
    run(&pool, "select restante_publish('shop', 'hi', null, '{ben}')").await;
    count_all(&store).await;
    run(&pool, "insert into statistics_journal (at, kind, messages) select now(), 'delivered', array_agg(id) from messages").await;
    count_all(&store).await;
    let delivered = "select delivered from statistics where message_type = any ('{text,hi}') order by class";
    let counted: Vec<i64> = sqlx::query_scalar(delivered).fetch_all(&pool).await.unwrap();
    assert_eq!(counted, [2, 1], "two messages, an event");
}

#[tokio::test]
async fn old_figures_are_removed_and_what_comes_late_for_an_expired_event_makes_none_anew() {
    let (_db, pool, store) = start().await;
    run(
        &pool,
        "insert into statistics (hour, class, message_type, ended, delays)
           select date_trunc('hour', now() - n * interval '1 hour', 'UTC'), 'chat', 'text', array_fill(0::bigint, array[12]), '{}' from generate_series(1, 3000) n;
         insert into event_statistics (message_id, expires_at, ended, delays)
           select gen_random_uuid(), now() - n * interval '1 hour', array_fill(0::bigint, array[12]), '{}' from generate_series(1, 48) n",
    )
    .await;
    assert!(!store.purge_statistics(None).await.unwrap());
    assert_eq!(number(&pool, "select count(*) from statistics").await, 3_000, "hours may be kept for ever");
    assert!(number(&pool, "select count(*) from event_statistics").await <= 24, "those of events never are");
    assert!(!store.purge_statistics(Some(90)).await.unwrap());
    assert_eq!(number(&pool, "select count(*) from statistics").await, 90 * 24 - 1, "each hour that began earlier");
    assert!(number(&pool, "select count(*) from event_statistics").await <= 24);
    assert!(store.purge_statistics(Some(1)).await.unwrap(), "a thousand at a time");
    assert_eq!(number(&pool, "select count(*) from statistics").await, 90 * 24 - 1 - 1_000);

    let publish = "begin; select restante_publish('shop', 'hi', null, '{ben}'); commit";
    run(&pool, publish).await;
    run(&pool, "update messages set expires_at = now() - interval '25 hours'; update statistics_journal set at = now()").await;
    run(&pool, publish).await;
    assert_eq!(count_all(&store).await, 2);
    assert_eq!(figures(&pool).await[..2], [2, 2]);
    let living = "select count(*) from event_statistics s join messages m on m.id = s.message_id and m.expires_at = s.expires_at";
    assert_eq!(number(&pool, living).await, 1, "that of the event that lives");
    assert!(number(&pool, "select max(recipients) from event_statistics").await == 1);
}

#[tokio::test]
async fn each_function_that_makes_rows_or_settles_them_notes_it_for_the_figures() {
    let (_db, pool, _store) = start().await;
    let silent: Vec<String> = sqlx::query_scalar(
        "select proname::text from pg_proc where pronamespace = 'public'::regnamespace
          and prosrc ~ 'insert into message_status|status = ''delivered''|''read''::delivery_status' and prosrc !~ 'insert into statistics_journal'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(silent, Vec::<String>::new());
}
