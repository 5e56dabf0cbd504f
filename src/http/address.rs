//! The address of the client of a request: that of the connection, or what trusted proxies say of it.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::error::ApiError;
use crate::connection::Shared;

/// The other end of the connection on which a request came. The listener adds it to each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

impl Peer {
    /// Of a connection that cannot tell any more: its client has gone.
    pub(super) const GONE: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
}

/// The address of the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientAddress(pub(super) IpAddr);

impl FromRequestParts<Shared> for ClientAddress {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        Ok(Self(client_address(parts, shared)))
    }
}

/// The address of the client of a request.
pub(super) fn client_address(parts: &Parts, shared: &Shared) -> IpAddr {
    let Peer(peer) = parts.extensions.get().copied().unwrap_or(Peer::GONE);
    shared.proxies.client_of(peer, &parts.headers)
}
