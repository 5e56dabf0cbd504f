//! The words of a command that waits for its database, and why the database cannot be reached: with its host, port and name, and never
//! with a password.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::{sleep, timeout};

use super::exit::words;
use crate::app::Database;

/// A person wonders after that.
const UNNOTICED: Duration = Duration::from_millis(700);
/// A server whose host drops what is sent to it never answers.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// The database cannot be reached, or lets nobody in.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach {place}: {why}")]
pub struct Unreachable {
    place: String,
    why: String,
}

/// Connects once each way that leads to the database. After 700 ms it says where it waits; after 30 s it gives up.
///
/// # Errors
/// [`Unreachable`]: with the words of the system or of the server.
pub async fn reach(database: &Database, say: impl Fn(&str)) -> Result<(), Unreachable> {
    let (place, direct) = (place(&database.options), place_of_direct(database));
    one(&database.options, &place, &say).await?;
    match direct {
        Some(place) => one(&database.direct, &place, &say).await,
        None => Ok(()),
    }
}

/// Does work on a database that was reached, and says where it waits if that takes long.
pub async fn watched<T>(database: &Database, what: &str, work: impl Future<Output = T>, say: impl Fn(&str)) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = sleep(UNNOTICED) => say(&format!("waiting for {}: {what}", place(&database.options))),
    }
    work.await
}

async fn one(options: &PgConnectOptions, place: &str, say: &impl Fn(&str)) -> Result<(), Unreachable> {
    let unreachable = |why: String| Unreachable { place: place.to_owned(), why };
    let mut connecting = std::pin::pin!(timeout(CONNECT_MAX, options.connect()));
    let connected = tokio::select! {
        connected = &mut connecting => connected,
        () = sleep(UNNOTICED) => {
            say(&format!("waiting for {place}, which does not answer yet"));
            connecting.await
        }
    };
    match connected {
        Ok(Ok(connection)) => {
            // The server cleans up after a connection that just goes; this only keeps its log quiet.
            let _ = connection.close().await;
            Ok(())
        }
        Ok(Err(error)) => Err(unreachable(words(&error))),
        Err(_) => Err(unreachable(format!("no answer within {} s", CONNECT_MAX.as_secs()))),
    }
}

fn place_of_direct(database: &Database) -> Option<String> {
    let (one, other) = (place(&database.options), place(&database.direct));
    (one != other).then_some(other)
}

/// A database in words: `the database shop at db:5432 (user ada)`.
fn place(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let name = options.get_database().unwrap_or(user);
    let at = match options.get_socket() {
        Some(socket) => format!("{} (port {})", socket.display(), options.get_port()),
        None => match options.get_host() {
            host if host.contains(':') => format!("[{host}]:{}", options.get_port()),
            host => format!("{host}:{}", options.get_port()),
        },
    };
    format!("the database {} at {at} as {}", crate::domain::printable(name), crate::domain::printable(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address;

    #[test]
    fn a_place_is_host_port_database_and_user() {
        let place = |url: &str| place(&address::options(url).unwrap());
        assert_eq!(place("postgres://ada:hush@db:6543/shop"), "the database shop at db:6543 as ada");
        assert_eq!(place("postgres://ada:hush@[::1]/shop"), "the database shop at [::1]:5432 as ada");
        assert_eq!(place("postgres://ada@db"), "the database ada at db:5432 as ada");
        assert_eq!(place("postgres:///shop?user=ada&host=/run/postgresql"), "the database shop at /run/postgresql (port 5432) as ada");
    }
}
