//! The operations of accounts, where the service has some.

use super::operation::Operation;
use crate::http::accounts::{AccountBody, EndedBody, LoggedOutBody, TokensBody};
use crate::http::bodies::{LoginData, PasswordData, RefreshData, RegisterData};
use crate::protocol::Code;

/// The codes of what takes no token, beside those of its body.
const WITHOUT_A_TOKEN: &[Code] = &[Code::Invalid, Code::TurnedOff, Code::RateLimited, Code::Busy, Code::Unavailable, Code::Internal];

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    let open =
        |path, id, summary, more: &[Code]| Operation::post(path, id, summary).for_everybody().refuses(&[WITHOUT_A_TOKEN, more].concat());
    vec![
        open("/v1/accounts", "registerAccount", "Makes an account.", &[Code::NameTaken])
            .takes::<RegisterData>()
            .answers::<AccountBody>(201, "It is made: log in."),
        open("/v1/accounts/login", "logIn", "Begins a login.", &[Code::BadCredentials])
            .takes::<LoginData>()
            .answers::<TokensBody>(200, "Its tokens."),
        open("/v1/accounts/refresh", "refreshLogin", "Goes on with a login. The refresh token is good once.", &[Code::LoginEnded])
            .takes::<RefreshData>()
            .answers::<TokensBody>(200, "Its next tokens."),
        open("/v1/accounts/logout", "logOut", "Ends the login of a refresh token.", &[Code::LoginEnded])
            .takes::<RefreshData>()
            .answers::<LoggedOutBody>(200, "There is no such login any more."),
        Operation::post("/v1/accounts/password", "changePassword", "Changes the caller's password, and ends its other logins.")
            .takes::<PasswordData>()
            .answers::<EndedBody>(200, "It is changed.")
            .refuses(&[Code::BadCredentials, Code::TurnedOff]),
        Operation::post("/v1/accounts/logout-everywhere", "logOutEverywhere", "Ends all logins of the caller.")
            .answers::<EndedBody>(200, "They have ended.")
            .refuses(&[Code::TurnedOff]),
    ]
}
