//! The description of everything under HTTP in OpenAPI 3.1: `docs/openapi.json`, and `/openapi.json` of a node.
//!
//! Shapes come from the types that handlers read and write; which route takes and answers what stands here, and tests hold it against the
//! routes and against real answers. In reading order: `operation`, then the operations: `people`, `feeds` and `accounts` (what users do), `operators`.

mod accounts;
mod feeds;
mod operation;
mod operators;
mod people;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::{ErrorBody, Problem};
use crate::protocol::codes::{Row, TABLE};
use crate::protocol::schema::{Dialect, Schemas};
use operation::Operation;

const ABOUT: &str = "Everything that a person can do over the socket, for programs that come and go, and what operators do. Unknown fields are ignored and `null` is the \
same as absent, in both directions. docs/protocol.md says in words what is described here; the sockets are described by /asyncapi.json.";

/// The whole description.
pub fn document() -> Value {
    let mut schemas = Schemas::new(Dialect::Draft2020);
    let operations = operations();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in &operations {
        let described = operation.described(&mut schemas);
        paths.entry(operation.path).or_default().insert(operation.method.to_owned(), described);
    }
    let responses = refusals(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Restante",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A JWT signed with HS256 to HS512, RS256 to RS512, PS256 to PS512, ES256, ES384 or EdDSA. `sub` is the user, `exp` is required, and `scope` has the words `send`, `events:write`, `admin:read` and `admin` where they are named. A token with `send` may do nothing else as its user.",
                },
            },
            "responses": responses,
            "schemas": schemas.definitions(),
        },
    })
}

/// Every operation.
fn operations() -> Vec<Operation> {
    [people::operations(), feeds::operations(), accounts::operations(), operators::operations()].concat()
}

/// A response for each status of the table of codes.
fn refusals(schemas: &mut Schemas) -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<&Row>> = BTreeMap::new();
    for row in TABLE {
        by_status.entry(row.http).or_default().push(row);
    }
    let (body, problem) = (schemas.told::<ErrorBody>(), schemas.told::<Problem<'_>>());
    by_status.into_iter().map(|(status, rows)| (status.to_string(), refusal(status, &rows, &body, &problem))).collect()
}

fn refusal(status: u16, rows: &[&Row], body: &Value, problem: &Value) -> Value {
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let words: Vec<String> = rows.iter().map(|row| format!("`{}`: {}", row.name, row.meaning)).collect();
    let code = json!({"properties": {"code": {"enum": names}}});
    let mut response = json!({
        "description": words.join(" "),
        "content": {
            "application/json": {"schema": {"allOf": [body, {"properties": {"error": code}}]}},
            "application/problem+json": {"schema": {"allOf": [problem, code, {"properties": {"status": {"const": status}}}]}},
        },
    });
    match status {
        401 => response["headers"] = json!({"WWW-Authenticate": {"schema": {"type": "string", "const": "Bearer"}}}),
        429 | 503 => response["headers"] = json!({"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}),
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::operations;
    use crate::http::acts;
    use crate::service::{Act, Right};

    /// A path without the names of its parameters.
    fn shape(path: &str) -> String {
        path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
    }

    /// Broken by a row of another act's right, by a route without a row, and by a row without a route.
    #[test]
    fn each_operation_takes_the_right_of_its_act() {
        let described: BTreeMap<(String, String), Right> = operations()
            .iter()
            .filter_map(|operation| Some(((operation.method.to_uppercase(), shape(operation.path)), operation.right()?)))
            .collect();
        // An event stream is opened as any connection is.
        let stream = ("GET".to_owned(), "/v1/stream".to_owned());
        let rows = acts::ROWS.iter().map(|(method, path, act)| ((method.to_string(), shape(path)), act.right()));
        let table: BTreeMap<_, _> = rows.chain([(stream, Act::Connect.right())]).collect();
        assert_eq!(table.len(), acts::ROWS.len() + 1, "a route stands there twice");
        for (route, right) in &described {
            assert_eq!(table.get(route), Some(right), "src/http/acts.rs: the act of {route:?}");
        }
        for route in table.keys() {
            assert!(described.contains_key(route), "src/http/acts.rs: there is no {route:?}");
        }
    }
}
