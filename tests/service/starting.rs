//! A node that does not come up: nothing of it stays behind, and whoever waits for it can go.

use std::process::Stdio;

use restante::app::{App, Database, StartError};
use sqlx::ConnectOptions;
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::fixtures::{LockHolder, until};
use crate::support::{Node, PATIENCE, StallingProxy, config, database, kill, secret};

#[tokio::test]
async fn a_start_that_fails_half_way_leaves_nothing_of_it_behind() {
    let db = database().await;
    let pool = db.pool(1).await;
    Node::start(db.options()).await.stop().await;
    // Its lanes and its listener are started by then.
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no node is listed'; end $$; \
                  create trigger refuse before insert on nodes for each row execute function refuse()";
    sqlx::raw_sql(refuse).execute(&pool).await.unwrap();
    let others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    for _ in 0..3 {
        let failed = App::start(&config(), Database::new(db.options()), Some(&secret().into())).await;
        assert!(matches!(failed, Err(StartError::Store(_))), "{failed:?}");
        until(&pool, "its connections are gone", &format!("select not exists (select {others})")).await;
    }
}

/// Every other way of waiting ends by itself; a connection that is made and then says nothing does not.
#[tokio::test]
async fn a_start_anew_that_is_not_answered_is_given_up_and_may_be_tried_again() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let predecessor = node.app().predecessor();
    node.stop().await;
    let proxy = StallingProxy::start(&db.options());
    // The first is the one that migrations would use; the next are asked whether a pooler is in between.
    proxy.carry_only(1);
    let through = Database::new(proxy.options(&db.options()));
    let (config, secret) = (config(), secret().into());
    let started = timeout(3 * PATIENCE, App::start_anew(&predecessor, &config, through, Some(&secret))).await;
    let error = started.expect("it is given up after half a minute").unwrap_err();
    assert!(matches!(error, StartError::TooSlow) && error.may_pass(), "{error:?}");
}

/// Broken by a node that ends where somebody holds the row of a setting, as a session of another node that was stopped.
#[tokio::test]
async fn a_start_anew_that_meets_a_lock_may_be_tried_again() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let predecessor = node.app().predecessor();
    node.stop().await;
    let (config, secret) = (config(), secret().into());
    for held in ["encryption", "token_settings"] {
        let holder = LockHolder::holds(&db.options(), &format!("select from {held} for update")).await;
        let started = App::start_anew(&predecessor, &config, Database::new(db.options()), Some(&secret)).await;
        let error = started.unwrap_err();
        assert!(matches!(error, StartError::Store(_)) && error.may_pass(), "{held}: {error:?}");
        holder.commits().await;
    }
    App::start_anew(&predecessor, &config, Database::new(db.options()), Some(&secret)).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_service_that_is_terminated_while_it_waits_for_its_database_exits_with_0() {
    let folder = tempfile::TempDir::new().unwrap();
    let silent = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let url = sqlx::postgres::PgConnectOptions::new_without_pgpass().socket(folder.path()).username("nobody").database("x").to_url_lossy();
    let mut service = Command::new(env!("CARGO_BIN_EXE_restante"))
        .arg("serve")
        .current_dir(folder.path())
        .envs([("DATABASE_URL", url.as_str()), ("JWT_SECRET", secret()), ("LISTEN_ADDR", "127.0.0.1:0"), ("RUST_LOG", "warn")])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let _connection = timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    kill("-TERM", service.id().unwrap());
    let exit = timeout(PATIENCE, service.wait()).await.unwrap().unwrap();
    assert_eq!(exit.code(), Some(0));
}
