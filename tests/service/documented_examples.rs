//! The examples of `docs/protocol.md`, said to a real node: what a client says is understood, and what HTTP answers has their shape.

use std::path::Path;

use restante::protocol::client;
use serde_json::{Map, Value, json};

use crate::support::{Node, database, group};

/// The JSON examples of the document.
fn examples() -> Vec<Value> {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md")).unwrap();
    let blocks = document.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let examples: Vec<Value> = blocks.map(|text| serde_json::from_str(text).unwrap()).collect();
    assert!(examples.len() > 40);
    examples
}

/// The one example that has this field.
fn example(field: &str) -> Value {
    let fits = |example: &Value| example.get("event").is_none() && example.get(field).is_some();
    examples().into_iter().find(fits).unwrap_or_else(|| panic!("no example has {field}"))
}

/// The names of fields, of lists those of their first item.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect::<Map<_, _>>().into(),
        Value::Array(items) => items.first().map(shape).into_iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Value::Null,
    }
}

#[tokio::test]
async fn what_a_client_says_in_the_examples_is_understood() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut said = 0;
    for example in examples().iter().filter(|example| client::parse(&example.to_string()).is_ok()) {
        // Nobody whom an example names: it would be asked for something with itself.
        let mut zoe = node.connect("zoe").await;
        let (event, data) = (example["event"].as_str().unwrap(), example["data"].clone());
        said += 1;
        if event == "typing" {
            zoe.tell(event, data).await;
            assert!(zoe.until_pong().await.iter().all(|frame| frame["event"] != "error"), "{example}");
            continue;
        }
        let answer = zoe.ask(event, if data.is_null() { json!({}) } else { data }).await;
        let misunderstood = ["bad_frame", "unknown_event", "invalid", "internal"];
        assert!(!misunderstood.iter().any(|code| answer["data"]["code"] == *code), "{example} is answered with {answer}");
    }
    assert!(said >= 11, "{said}");
    node.stop().await;
}

#[tokio::test]
async fn what_http_answers_has_the_shape_of_the_examples() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (anna, ben, admin) = (node.api("anna"), node.api("ben"), node.admin());
    let message = example("to");
    let id = message["messageId"].as_str().unwrap().to_owned();
    let (_, sent) = anna.post("/v1/messages", message).await;
    assert_eq!(shape(&sent), shape(&example("duplicate")));
    let (_, statuses) = anna.get(&format!("/v1/messages/{id}/status")).await;
    assert_eq!(shape(&statuses), shape(&example("statuses")));
    group(&pool, &["anna", "cleo"]).await;
    let (_, chats) = anna.get("/v1/chats").await;
    let of_group = chats["chats"].as_array().unwrap().iter().find(|chat| chat["kind"] == "group").unwrap().clone();
    assert_eq!(shape(&of_group), shape(&example("joinedSeq")));
    let (_, inbox) = ben.get("/v1/inbox?after=1").await;
    assert_eq!(shape(&inbox), shape(&example("more")));
    let (_, refused) = anna.get(&format!("/v1/messages/{}/status", uuid::Uuid::now_v7())).await;
    let fields = refused["error"].as_object().unwrap().keys();
    assert!(fields.into_iter().all(|field| example("error")["error"].get(field).is_some()), "{refused}");

    let (status, _) = ben.post("/v1/inbox/reject", json!({"messageId": id, "reason": "cannot decode", "final": true})).await;
    assert_eq!(status, 200);
    let (_, dead) = admin.get("/v1/admin/dead-letters").await;
    assert_eq!(shape(&dead), shape(&example("deadLetters")));
    let (_, done) = admin.post("/v1/admin/dead-letters/requeue", json!({"items": example("items")["items"]})).await;
    assert_eq!(shape(&done), shape(&example("results")));
    node.stop().await;
}

#[tokio::test]
async fn what_http_answers_of_events_and_feeds_has_the_shape_of_the_examples() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let shop = node.publisher("shop");
    let event = example("data");
    let id = event["eventId"].as_str().unwrap().to_owned();
    let list = json!({"events": [event, {"type": "t", "to": {"feed": uuid::Uuid::now_v7()}}]});
    let (status, told) = shop.post("/v1/events", list).await;
    let outcomes = examples().into_iter().find(|example| example["results"][0].get("eventId").is_some()).unwrap();
    let each = |told: &Value| told["results"].as_array().unwrap().iter().map(shape).collect::<Vec<_>>();
    assert_eq!((status, each(&told)), (200, each(&outcomes)), "{told}");
    let (_, mut progress) = shop.get(&format!("/v1/events/{id}")).await;
    let mut documented = example("written");
    // The target has the shape of what was published, and reasons are there as they occur.
    for value in [&mut progress, &mut documented] {
        (value["ended"], value["to"]) = (Value::Null, Value::Null);
    }
    progress["figures"] = Value::Null;
    assert_eq!(shape(&progress), shape(&documented));
    crate::support::until_true(&db.pool(1).await, "select exists (select from event_statistics)").await;
    let (_, mut figures) = node.admin().get(&format!("/v1/admin/statistics/events/{id}")).await;
    let mut documented = example("firstDeliveredAt");
    for value in [&mut figures, &mut documented] {
        (value["ended"], value["timeToDeliveryMs"]) = (Value::Null, Value::Null);
    }
    assert_eq!(shape(&figures), shape(&documented));
    let (_, mut figures) = node.admin().get("/v1/admin/statistics").await;
    let mut documented = example("by");
    for value in [&mut figures, &mut documented] {
        (value["groups"][0]["ended"], value["groups"][0]["timeToDeliveryMs"]) = (Value::Null, Value::Null);
    }
    assert_eq!(shape(&figures), shape(&documented));
    let feed = example("publishers");
    let (status, made) = shop.post("/v1/feeds", feed.clone()).await;
    assert_eq!((status, &made), (201, &json!({"feedId": feed["feedId"]})));
    let (_, shown) = shop.get(&format!("/v1/feeds/{}", feed["feedId"].as_str().unwrap())).await;
    assert_eq!(shape(&shown), shape(&example("isMaker")));
    node.stop().await;
}

#[tokio::test]
async fn an_inbox_of_events_has_the_shape_of_its_example() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let ben = node.api("ben");
    let documented = examples().into_iter().find(|example| example.get("class").is_some() && example.get("events").is_some()).unwrap();
    // A user follows everyone from first sight.
    ben.get("/v1/inbox").await;
    let event = json!({"type": "post_update", "data": documented["events"][0]["data"], "to": {"everyone": true}});
    let (status, published) = node.publisher("shop").post("/v1/events", event).await;
    assert_eq!(status, 200, "{published}");
    let (_, inbox) = ben.get("/v1/inbox?class=event").await;
    assert_eq!(shape(&inbox), shape(&documented));
    node.stop().await;
}
