//! The description of both kinds of sockets in AsyncAPI 3: `docs/asyncapi.json`, and `/asyncapi.json` of a node.
//!
//! Names and shapes come from the types that are read and written; only what is said to what, and in how many words, stands here. The view is that
//! of the service: it receives what clients say and sends what they are told.
//! In reading order: `channel` (what is said and told on one kind of socket), `ws`, `socketio`.

mod channel;
mod socketio;
mod ws;

use serde_json::{Map, Value, json};

use super::schema::{Dialect, Schemas};

const ABOUT: &str = "Messages for users who may be offline: kept in PostgreSQL, delivered when the user is there, acked by the client, with receipts for the \
sender. Delivered at least once; once in effect for a client that stores ids with effects. Unknown fields are ignored and `null` is the same as absent, in both \
directions. docs/protocol.md says in words what is described here.";

/// The whole description.
pub fn document() -> Value {
    let mut schemas = Schemas::new(Dialect::Draft07);
    let mut operations = Map::new();
    let mut channels = Map::new();
    for described in [ws::described(&mut schemas), socketio::described(&mut schemas)] {
        channels.insert(described.name.to_owned(), described.channel);
        operations.extend(described.operations);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Restante",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "node": {
                "host": "{host}",
                "protocol": "ws",
                "description": "Any node.",
                "variables": {"host": {"default": "localhost:8080"}},
                "security": [{"$ref": "#/components/securitySchemes/bearer"}, {"$ref": "#/components/securitySchemes/query"}],
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In the header `Authorization`, or in the subprotocols `restante.v1, bearer.<jwt>`, or in a first frame `authenticate`.",
                },
                "query": {"type": "httpApiKey", "in": "query", "name": "token", "description": "For what can do nothing else."},
            },
            "schemas": schemas.definitions(),
        },
    })
}
