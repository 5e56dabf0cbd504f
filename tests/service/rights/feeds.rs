//! Acts on a feed and its events by the relation to it, with and without the scope `events:write`, and `send` beside that.

use reqwest::Method;
use restante::service::{Act, Relation};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{DONE, Way, arrange, assert_outcome, event, http, nothing, of_table};
use crate::support::{Node, database};

const RELATIONS: [Relation; 4] = [Relation::Stranger, Relation::Follower, Relation::Publisher, Relation::Maker];
const NO: &str = "forbidden";
const NOT_THERE: &str = "not_found";

/// Acts with their outcomes for [`RELATIONS`], without the scope `events:write`. The event was published by the publisher.
const TABLE: [(Act, [&str; 4]); 8] = [
    (Act::SeeFeed, [DONE; 4]),
    (Act::Follow, [DONE; 4]),
    (Act::PublishToFeed, [NO, NO, DONE, DONE]),
    (Act::PublishToUsers, [NO; 4]),
    (Act::SeeProgress, [NOT_THERE, NOT_THERE, DONE, NOT_THERE]),
    (Act::ListFollowers, [NO, NO, DONE, DONE]),
    (Act::ChangePublishers, [NO, NO, NO, DONE]),
    (Act::ChangeFollowers, [NO; 4]),
];

/// A feed with an event, and a user of each relation.
struct Feed {
    id: Uuid,
    event: String,
}

fn name(relation: Relation) -> String {
    format!("{relation:?}")
}

async fn arranged(node: &Node) -> Feed {
    let (maker, publisher, follower) = (name(Relation::Maker), name(Relation::Publisher), name(Relation::Follower));
    let id = Uuid::now_v7();
    arrange(node, &maker, Method::POST, "/v1/feeds", json!({"feedId": id, "title": "t", "publishers": [publisher]})).await;
    arrange(node, &follower, Method::POST, &format!("/v1/feeds/{id}/follow"), nothing()).await;
    let told = arrange(node, &publisher, Method::POST, "/v1/events", json!({"type": "news", "data": {}, "to": {"feed": id}})).await;
    Feed { id, event: told["eventId"].as_str().unwrap().to_owned() }
}

/// The ways to ask for an act of the table.
fn ways(act: Act, Feed { id, event: published }: &Feed, user: &str) -> Vec<Way> {
    let path = format!("/v1/feeds/{id}");
    let publish = |to| {
        let data = json!({"type": "news", "data": {}, "to": to});
        [http(Method::POST, "/v1/events", data.clone())].into_iter().chain(event("event:publish", data)).collect()
    };
    let others = json!({"userIds": [format!("{user}-other")]});
    match act {
        Act::SeeFeed => vec![http(Method::GET, path, nothing())],
        Act::Follow => ["follow", "unfollow"].map(|verb| http(Method::POST, format!("{path}/{verb}"), nothing())).into(),
        Act::PublishToFeed => publish(json!({"feed": id})),
        Act::PublishToUsers => {
            let mut ways: Vec<Way> = publish(json!({"users": ["somebody"]}));
            ways.extend(publish(json!({"everyone": true})));
            ways
        }
        Act::SeeProgress => vec![http(Method::GET, format!("/v1/events/{published}"), nothing())],
        Act::ListFollowers => vec![http(Method::GET, format!("{path}/followers"), nothing())],
        Act::ChangePublishers => {
            [Method::POST, Method::DELETE].map(|method| http(method, format!("{path}/publishers"), others.clone())).into()
        }
        Act::ChangeFollowers => ["follow", "unfollow"].map(|verb| http(Method::POST, format!("{path}/{verb}"), others.clone())).into(),
        other => panic!("{other:?} is none of the table"),
    }
}

/// Asks for every act, by a user of each relation with this scope.
async fn assert_table(node: &Node, pool: &PgPool, scope: &str, expected: impl Fn(&'static str, Act) -> &'static str) {
    for (act, outcomes) in TABLE {
        for (relation, outcome) in RELATIONS.into_iter().zip(outcomes) {
            // A feed of its own: one act would change what the next finds.
            let feed = arranged(node).await;
            let (case, user, expected) = (format!("{act:?} {relation:?} {scope:?}"), name(relation), expected(outcome, act));
            assert_eq!(of_table(scope, act, relation), expected, "the table of the service: {case}");
            let is_narrow = scope.contains("send");
            for way in ways(act, &feed, &user).iter().filter(|way| !is_narrow || matches!(way, Way::Request(..))) {
                assert_outcome(node, pool, (&user, scope), way, expected, &case).await;
            }
        }
    }
}

/// Broken by `restante_publish_batch` without a look at `feed_publishers`, by followers for whoever asks, and by `Maker` as it is for `SeeProgress`.
#[tokio::test]
async fn each_act_on_a_feed_has_the_outcome_of_its_relation_and_scope_at_every_door() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.event_rate = 0).await;
    let pool = db.pool(1).await;
    assert_table(&node, &pool, "", |outcome, _| outcome).await;
    assert_table(&node, &pool, "events:write", |_, _| DONE).await;
    assert_table(&node, &pool, "send events:write", |_, act| if act == Act::SeeFeed { NO } else { DONE }).await;
    node.stop().await;
}
