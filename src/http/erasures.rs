//! Erasing of users, for operators: to erase one, with the scope `admin`, and to see how far that is, with `admin` or `admin:read`.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::extract::{Admin, Params, Payload};
use crate::domain::ExternalId;
use crate::protocol::fields::Fields;
use crate::protocol::{ErasedContentWord, ErasureData, Fault};
use crate::service::{ErasedContent, Erasure, Service};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ErasureQuery")]
pub(super) struct ShowParams {
    /// The user.
    user_id: ExternalId,
}

/// `POST /v1/admin/erasures {userId, content}`. Answered when the profile is gone and the tokens are worth nothing; a job does the rest.
pub(super) async fn erase(
    State(service): State<Service>,
    Admin(admin): Admin,
    Payload(body): Payload,
) -> Result<Json<ErasureData>, ApiError> {
    let (user, content) = request(&body)?;
    let erasure = service.erase_user(&admin, &user, content).await?;
    Ok(Json(data(user, &erasure)))
}

/// `GET /v1/admin/erasures?userId=`: how far the last erasure of this user is.
pub(super) async fn show(
    State(service): State<Service>,
    Admin(admin): Admin,
    Params(params): Params<ShowParams>,
) -> Result<Json<ErasureData>, ApiError> {
    let erasure = service.erasure(&admin, &params.user_id).await?;
    Ok(Json(data(params.user_id, &erasure)))
}

fn request(body: &[u8]) -> Result<(ExternalId, ErasedContent), Fault> {
    let fields = Fields::of_body(body, ["userId", "content"])?;
    let user = fields.required::<ExternalId>("userId")?;
    let content = match fields.required::<String>("content")?.as_str() {
        "keep" => ErasedContent::Keep,
        "empty" => ErasedContent::Empty,
        _ => return Err(Fault::invalid("`content` must be \"keep\" or \"empty\"")),
    };
    Ok((user, content))
}

fn data(user_id: ExternalId, erasure: &Erasure) -> ErasureData {
    ErasureData {
        user_id,
        content: match erasure.content {
            ErasedContent::Keep => ErasedContentWord::Keep,
            ErasedContent::Empty => ErasedContentWord::Empty,
        },
        asked_at: erasure.asked_at.into(),
        emptied: erasure.emptied,
        done_at: erasure.done_at.map(Into::into),
    }
}
