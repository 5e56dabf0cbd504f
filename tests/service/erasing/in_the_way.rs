//! Statements that lock users, in whatever order they come: one waits for the other, and neither is the end of the other. Erasing, passing on
//! a name, making groups and blocking take the rows of users in the order of their numbers, and an erasure its own row before.

use sqlx::{AssertSqlSafe, PgPool};

use crate::support::fixtures::LockHolder;
use crate::support::{Database, SOMEBODY_WAITS, database, until_true};

/// Ben, with the smallest number, anna and zoe.
async fn world() -> (Database, PgPool) {
    let db = database().await;
    let pool = db.pool(3).await;
    for name in ["ben", "anna", "zoe"] {
        run(&pool, &format!("select restante_users('{{{name}}}')")).await;
    }
    (db, pool)
}

async fn run(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
}

/// The answer of a statement that waits for a lock, while its holder takes another one and commits.
async fn waits(db: &Database, pool: &PgPool, [held, later]: [&str; 2], waiting: &str) -> String {
    let mut holder = LockHolder::holds(&db.options(), held).await;
    let takes = async {
        until_true(pool, SOMEBODY_WAITS).await;
        // A deadlock would end one of the two.
        holder.run(later).await;
        holder.commits().await;
    };
    let asks = sqlx::query_scalar::<_, String>(AssertSqlSafe(waiting.to_owned())).fetch_one(pool);
    let (answer, ()) = tokio::join!(asks, takes);
    answer.unwrap()
}

/// Broken by an erasure that locks the user first: its job has its row, and waits for the user.
#[tokio::test]
async fn an_erasure_that_is_asked_for_again_waits_for_its_job() {
    let (db, pool) = world().await;
    run(&pool, "select restante_erase_user('anna', false)").await;
    let job = ["select from erasures for update", "select from users where external_id = 'anna' for update"];
    assert_eq!(waits(&db, &pool, job, "select outcome from restante_erase_user('anna', true)").await, "begun");
}

/// Broken by a name that passes on under the lock of the erased user alone: rows of those that block it are locked later.
#[tokio::test]
async fn a_name_that_passes_on_waits_for_those_who_block_it() {
    let (db, pool) = world().await;
    run(&pool, "select restante_block('ben', 'anna'), restante_erase_user('anna', false); update erasures set stage = 'name'").await;
    let takes_back = ["select from users where id = 1 for update", "select restante_unblock('ben', 'anna')"];
    assert_eq!(waits(&db, &pool, takes_back, "select restante_pass_on_name(2, 10)::text").await, "true");
    let blocks: i64 = sqlx::query_scalar("select count(*) from blocks").fetch_one(&pool).await.unwrap();
    assert_eq!(blocks, 0, "it was taken back before");
}

/// Broken by members that are locked after those who are invited.
#[tokio::test]
async fn a_group_that_is_made_waits_for_its_members_and_for_those_it_invites_in_one_order() {
    let (db, pool) = world().await;
    run(&pool, "select restante_request_contact('ben', 'anna'), restante_accept_contact('anna', 'ben')").await;
    let blocks = ["select from users where id = 1 for update", "select restante_block('ben', 'zoe')"];
    for (chat, made) in [
        ("00000000-0000-0000-0000-00000000000a", "select outcome from restante_create_group($chat, 2, null, '{1,3}', true)"),
        ("00000000-0000-0000-0000-00000000000b", "select outcome from restante_add_members($chat, 2, '{1,3}', 100, true)"),
    ] {
        if made.contains("add_members") {
            run(&pool, &format!("select restante_create_group('{chat}', 2, null, '{{}}', true)")).await;
        }
        let outcome = waits(&db, &pool, blocks, &made.replace("$chat", &format!("'{chat}'"))).await;
        assert_eq!(outcome, "done", "{made}");
        run(&pool, "select restante_unblock('ben', 'zoe')").await;
    }
}

/// Broken by an erasure that locks the user of a name alone: it waits for one that has the name no more, and finds nobody.
#[tokio::test]
async fn an_erasure_that_waits_while_the_name_passes_on_erases_the_user_that_has_it_then() {
    let (db, pool) = world().await;
    run(&pool, "select restante_erase_user('anna', false); update erasures set stage = 'name'").await;
    let passes = ["select restante_pass_on_name(2, 10)", "select"];
    let erases = "select outcome from restante_erase_user('anna', false)";
    assert_eq!(waits(&db, &pool, passes, erases).await, "begun");
    let erased: i64 = sqlx::query_scalar("select count(*) from erasures").fetch_one(&pool).await.unwrap();
    assert_eq!(erased, 2);
}
