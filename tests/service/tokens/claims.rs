//! Claims over HTTP: what a token says in a form that is not that of the claim takes nothing away from what it may not do.

use reqwest::Client;
use serde_json::{Value, json};

use super::{answer, signed_by};
use crate::support::issuer::claims;
use crate::support::{Node, SECRET, database, told};

fn with(more: &Value) -> String {
    let mut claims = claims("anna");
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    signed_by(SECRET, &claims)
}

fn not_authenticated() -> (u16, String) {
    (401, "not_authenticated".to_owned())
}

/// Broken by a scope that is read only where it is a text: what may only send would be a whole person.
#[tokio::test]
async fn a_scope_in_a_list_narrows_as_one_in_a_text_and_what_is_neither_opens_nothing() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for narrow in [json!({"scope": ["send"]}), json!({"scp": ["openid", "send"]}), json!({"scp": "send"}), json!({"scope": "send"})] {
        assert_eq!(answer(&node, &with(&narrow)).await, (403, "forbidden".to_owned()), "{narrow}");
    }
    for bad in [
        json!({"scope": "send\tadmin"}),
        json!({"scope": "admin\n"}),
        json!({"scope": {"send": true}}),
        json!({"scope": 5}),
        json!({"scope": ["send", 5]}),
        json!({"scp": ["send admin"]}),
        json!({"scope": "send", "scp": ["admin"]}),
    ] {
        assert_eq!(answer(&node, &with(&bad)).await, not_authenticated(), "{bad}");
    }
    for person in [json!({"scope": null}), json!({"scope": ""}), json!({"scp": []}), json!({"scope": ["openid"]})] {
        assert_eq!(answer(&node, &with(&person)).await.0, 200, "{person}");
    }
    let admin = Client::new().get(format!("{}/v1/admin/audit", node.url())).bearer_auth(with(&json!({"scp": ["admin:read"]})));
    assert_eq!(told(admin.send().await.unwrap()).await.0, 200);
    node.stop().await;
}

/// Broken by an id that is dropped in silence: nothing could revoke the token by it. And by a time that is dropped, which bounds its life.
#[tokio::test]
async fn a_token_has_an_id_by_which_it_can_be_revoked_or_none_and_times_that_are_times() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for name in ["jti", "sid"] {
        for bad in [json!(12_345), json!("x".repeat(257)), json!(""), json!("a\0b"), json!(["a"]), json!(true)] {
            assert_eq!(answer(&node, &with(&json!({name: bad}))).await, not_authenticated(), "{name} {bad}");
        }
        let id = format!("{name}{}", "ü".repeat(253));
        let token = with(&json!({name: id}));
        assert_eq!((answer(&node, &token).await.0, answer(&node, &with(&json!({name: null}))).await.0), (200, 200));
        let (status, revoked) = node.admin().post("/v1/admin/revocations", json!({"tokenId": id})).await;
        assert_eq!(status, 200, "{revoked}");
        assert_eq!(answer(&node, &token).await, (401, "token_revoked".to_owned()));
    }
    for bad in [json!({"iat": "x"}), json!({"iat": []}), json!({"nbf": "x"}), json!({"exp": "9999999999"}), json!({"sub": 5})] {
        assert_eq!(answer(&node, &with(&bad)).await, not_authenticated(), "{bad}");
    }
    node.stop().await;
}
