//! The operations of operators and load balancers.

use serde_json::Value;

use super::operation::Operation;
use crate::http::audit::{AuditBody, AuditParams};
use crate::http::bodies::{DiscardData, EraseData, LimitData, RequeueData, RevokeData};
use crate::http::dead_letters::{ListBody, ListParams, Results, ShowBody};
use crate::http::erasures::ShowParams;
use crate::http::limits::{LimitSetData, ListBody as LimitsBody, ListParams as LimitParams};
use crate::http::node::{About, Fine, Ready};
use crate::http::revocations::{ListBody as RevocationsBody, ListParams as RevocationParams};
use crate::http::statistics::StatisticsParams;
use crate::protocol::{Code, DataKeysData, ErasureData, EventFiguresData, RevocationData, RotationData, StatisticsData};
use crate::telemetry::METRICS_CONTENT_TYPE;

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    [of_admins(), of_everybody()].concat()
}

fn of_admins() -> Vec<Operation> {
    vec![
        Operation::get("/v1/admin/statistics", "getStatistics", "What was accepted, and what became of it, in groups.")
            .for_admin_readers()
            .query::<StatisticsParams>()
            .answers::<StatisticsData>(200, "The figures."),
        Operation::get("/v1/admin/statistics/events/{eventId}", "getEventStatistics", "The figures of one event.")
            .for_admin_readers()
            .answers::<EventFiguresData>(200, "The figures.")
            .refuses(&[Code::NotFound]),
        Operation::get("/v1/admin/revocations", "listRevocations", "The revocations of tokens that count, newest first.")
            .for_admin_readers()
            .query::<RevocationParams>()
            .answers::<RevocationsBody>(200, "A page of revocations."),
        Operation::post("/v1/admin/revocations", "revokeTokens", "Revokes tokens, on every node.")
            .for_admins()
            .takes::<RevokeData>()
            .answers::<RevocationData>(200, "They are worth nothing any more.")
            .refuses(&[Code::Conflict]),
        Operation::get("/v1/admin/erasures", "getErasure", "How far the last erasure of a user is.")
            .for_admin_readers()
            .query::<ShowParams>()
            .answers::<ErasureData>(200, "The erasure.")
            .refuses(&[Code::NotFound]),
        Operation::post("/v1/admin/erasures", "eraseUser", "Erases a user: its profile and tokens now, the rest by a job.")
            .for_admins()
            .takes::<EraseData>()
            .answers::<ErasureData>(200, "The profile is gone, and the tokens are worth nothing any more.")
            .refuses(&[Code::NotFound, Code::Conflict]),
        Operation::get("/v1/admin/limits", "listRaisedLimits", "The users whose limits are raised.")
            .for_admin_readers()
            .query::<LimitParams>()
            .answers::<LimitsBody>(200, "A page of users."),
        Operation::post("/v1/admin/limits", "setLimit", "Multiplies all rates of a user, on every node.")
            .for_admins()
            .takes::<LimitData>()
            .answers::<LimitSetData>(200, "It counts.")
            .refuses(&[Code::NotFound, Code::Conflict]),
        Operation::get("/v1/admin/dead-letters", "listDeadLetters", "What failed and nobody has given up, newest first.")
            .for_admin_readers()
            .query::<ListParams>()
            .answers::<ListBody>(200, "A page of dead letters."),
        Operation::get("/v1/admin/dead-letters/{messageId}", "getDeadLetter", "One of them, with what it says.")
            .for_admin_readers()
            .answers::<ShowBody>(200, "The dead letter.")
            .refuses(&[Code::NotFound]),
        Operation::post("/v1/admin/dead-letters/requeue", "requeueDeadLetters", "Puts some back.")
            .for_admins()
            .takes::<RequeueData>()
            .answers::<Results>(200, "An outcome for each, in their order."),
        Operation::post("/v1/admin/dead-letters/discard", "discardDeadLetters", "Gives some up.")
            .for_admins()
            .takes::<DiscardData>()
            .answers::<Results>(200, "An outcome for each, in their order."),
        Operation::get("/v1/admin/audit", "listAudit", "What operators have done, newest first.")
            .for_admin_readers()
            .query::<AuditParams>()
            .answers::<AuditBody>(200, "A page of acts."),
        Operation::get("/v1/admin/keys", "listDataKeys", "The data keys that messages are encrypted with, newest first.")
            .for_admin_readers()
            .answers::<DataKeysData>(200, "The keys, and how far their sweeps are."),
        Operation::post("/v1/admin/keys/rotate", "rotateDataKeys", "Makes a new data key, and encrypts every message with it.")
            .for_admins()
            .answers::<RotationData>(200, "The sweep that does it."),
    ]
}

fn of_everybody() -> Vec<Operation> {
    let get = |path, id, summary| Operation::get(path, id, summary).for_everybody();
    vec![
        get("/", "about", "What this is.").answers::<About>(200, "The service, and its paths."),
        get("/healthz", "getHealth", "Does the process live?").answers::<Fine>(200, "It does."),
        get("/readyz", "getReadiness", "May clients be sent to this node?")
            .answers::<Ready>(200, "They may.")
            .refuses(&[Code::Restart, Code::Unavailable]),
        get("/metrics", "getMetrics", "Figures of this node, in the text format of OpenMetrics.").answers_text(
            200,
            "The metrics.",
            METRICS_CONTENT_TYPE,
        ),
        get("/openapi.json", "getOpenApi", "This description.")
            .answers::<Value>(200, "OpenAPI 3.1.")
            .answers_nothing(304, "It is as it was."),
        get("/asyncapi.json", "getAsyncApi", "The description of the sockets.")
            .answers::<Value>(200, "AsyncAPI 3.")
            .answers_nothing(304, "It is as it was."),
    ]
}
