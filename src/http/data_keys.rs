//! Data keys, for operators: a list, and a rotation. Each takes a token with the scope `admin`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::extract::Admin;
use crate::protocol::{DataKeyData, DataKeysData, RotationData};
use crate::service::Service;

/// `GET /v1/admin/keys`: the data keys, and how far their sweeps are.
pub(super) async fn list(State(service): State<Service>, Admin(admin): Admin) -> Result<Json<DataKeysData>, ApiError> {
    let (state, keys) = service.data_keys(&admin).await?;
    let keys = keys.into_iter().map(|stored| DataKeyData {
        key_id: stored.key.id,
        master_key_id: stored.key.master_id,
        made_at: stored.made_at.into(),
        is_replaced: stored.is_replaced,
    });
    let (is_on, sweeps_wanted, sweeps_done) = (state.is_on, state.wanted, state.done);
    Ok(Json(DataKeysData { is_on, sweeps_wanted, sweeps_done, keys: keys.collect() }))
}

/// `POST /v1/admin/keys/rotate`: a new data key, and every message under it.
pub(super) async fn rotate(State(service): State<Service>, Admin(admin): Admin) -> Result<Json<RotationData>, ApiError> {
    Ok(Json(RotationData { sweep: service.rotate_keys(&admin).await? }))
}
