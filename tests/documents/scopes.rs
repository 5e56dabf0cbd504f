//! The table of endpoints in docs/security.md, as the description of OpenAPI has their scopes.

use serde_json::{Value, json};

/// The table, from the description.
fn table(openapi: &Value) -> String {
    let mut lines = "| endpoint | takes |\n|---|---|\n".to_owned();
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            lines.push_str(&format!("| `{} {path}` | {} |\n", method.to_uppercase(), takes(&operation["security"])));
        }
    }
    lines
}

/// An operation without `security` would take whatever the document takes as a whole, which says nothing.
fn takes(security: &Value) -> &'static str {
    let kinds = [
        (json!([]), "nothing"),
        (json!([{"bearer": []}]), "a token"),
        (json!([{"bearer": []}, {"bearer": ["events:write"]}]), "a token; the scope `events:write` opens more"),
        (json!([{"bearer": []}, {"bearer": ["send"]}]), "a token, also one with the scope `send` alone"),
        (json!([{"bearer": ["admin:read"]}, {"bearer": ["admin"]}]), "a token with the scope `admin:read` or `admin`"),
        (json!([{"bearer": ["admin"]}]), "a token with the scope `admin`"),
    ];
    kinds.into_iter().find(|(kind, _)| kind == security).map_or_else(|| panic!("say what {security} means"), |(_, words)| words)
}

#[test]
fn the_endpoints_and_their_scopes_are_those_of_the_description() {
    let table = table(&serde_json::from_str(&super::read("docs/openapi.json")).unwrap());
    assert!(table.lines().count() > 45, "{table}");
    assert!(super::read("docs/security.md").contains(&table), "put this into docs/security.md:\n{table}");
}
