//! `restante grants`: the lines that give the schema to an owner without login, and to each other role what it needs. It only prints them:
//! who runs them is a superuser, and the service never is. `script` has the lines, `service` the rights of the service's role, `quoting`
//! keeps names from being read as anything but names.

mod quoting;
mod script;
mod service;

use std::collections::BTreeSet;

use super::exit::{Exit, UsageError};
use super::screen::print;
use crate::app::MIGRATIONS;
use crate::store::objects;
use script::Roles;

pub const ABOUT: &str = "\
Print the lines of SQL that divide the rights on the schema among roles.

--owner gets the schema and everything in it, and cannot log in; it is made if it is missing. --service is the role of the nodes. An \
--application may call restante_send(), restante_publish() and restante_recall() and nothing else, as the users that the table \
application_senders lists for it. An --analyst may read views without content, and the figures of delivery. Both may be named several \
times. All but the owner must be there already.

The lines are for a superuser and for the database that has the schema. They are one transaction, change nothing where everything is \
right, and are to be run again after each `restante migrate`.

Examples:
  restante grants --owner restante_owner --service restante | psql -v ON_ERROR_STOP=1 -d restante
  restante grants --schema restante --owner restante_owner --service restante --application shop --analyst reports";

/// The longest name that PostgreSQL keeps.
const NAME_BYTES_MAX: usize = 63;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The schema that has the tables
    #[arg(long, default_value = "public", value_parser = name, value_name = "NAME", allow_hyphen_values = true)]
    schema: String,
    /// The role that owns everything and cannot log in
    #[arg(long, value_parser = name, value_name = "ROLE", allow_hyphen_values = true)]
    owner: String,
    /// The role that the nodes log in as
    #[arg(long, value_parser = name, value_name = "ROLE", allow_hyphen_values = true)]
    service: String,
    /// A role of an application that sends from SQL
    #[arg(long, value_parser = name, value_name = "ROLE", allow_hyphen_values = true)]
    application: Vec<String>,
    /// A role that looks at figures
    #[arg(long, value_parser = name, value_name = "ROLE", allow_hyphen_values = true)]
    analyst: Vec<String>,
}

/// Prints the lines.
///
/// # Errors
/// A role is named twice, or stdout is closed.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let Args { schema, owner, service, application: applications, analyst: analysts } = args;
    let roles = Roles { schema, owner, service, applications, analysts };
    let mut seen = BTreeSet::new();
    if let Some(twice) = roles.all().into_iter().find(|role| !seen.insert(*role)) {
        return Err(UsageError(format!("the role {twice} is named twice: each role has one purpose")).into());
    }
    print(script::script(&roles, &objects(MIGRATIONS.iter())).trim_end())?;
    Ok(Exit::Done)
}

/// A name that PostgreSQL takes as it is. It cuts off longer ones, and two of them could become one.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes without control characters"));
    }
    Ok(text.to_owned())
}
