//! The operations of publishers, and of the feeds that a user follows or keeps.

use super::operation::Operation;
use crate::http::bodies::{NewFeedData, PublishAnswer, PublishBodyData, UsersData, UsersOrNobodyData};
use crate::http::events::ProgressBody;
use crate::http::feeds::{Done, FeedBody, FollowersBody, FollowersParams, ListBody, ListParams, MadeBody};
use crate::protocol::Code;

const CHANGING: &[Code] = &[Code::Forbidden, Code::NotFound, Code::Conflict];

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    [events(), feeds()].concat()
}

fn events() -> Vec<Operation> {
    vec![
        Operation::post("/v1/events", "publishEvents", "Publishes an event, or up to 500 with an outcome each.")
            .for_publishers()
            .with_key()
            .takes::<PublishBodyData>()
            .answers::<PublishAnswer>(200, "All of them are stored, or refused one by one.")
            .refuses(CHANGING),
        Operation::get("/v1/events/{eventId}", "getEvent", "How far an event has got, for its publisher.")
            .for_publishers()
            .answers::<ProgressBody>(200, "Its progress.")
            .refuses(&[Code::NotFound]),
    ]
}

fn feeds() -> Vec<Operation> {
    let change = |method, path, id, summary| {
        Operation::new(method, path, id, summary).for_publishers().answers::<Done>(200, "It is so.").refuses(CHANGING)
    };
    vec![
        Operation::post("/v1/feeds", "createFeed", "Makes a feed, whose first publisher is the caller.")
            .for_publishers()
            .takes::<NewFeedData>()
            .answers::<MadeBody>(201, "It is there.")
            .refuses(&[Code::Conflict])
            .leads_to("getFeed", "feedId", "/feedId")
            .leads_to("followFeed", "feedId", "/feedId")
            .leads_to("unfollowFeed", "feedId", "/feedId")
            .leads_to("listFollowers", "feedId", "/feedId"),
        Operation::get("/v1/feeds", "listFeeds", "Feeds that the caller follows, or may publish to.")
            .query::<ListParams>()
            .answers::<ListBody>(200, "A page of feeds."),
        Operation::get("/v1/feeds/{feedId}", "getFeed", "One feed.").answers::<FeedBody>(200, "The feed.").refuses(&[Code::NotFound]),
        Operation::get("/v1/feeds/{feedId}/followers", "listFollowers", "Who follows it, for its publishers.")
            .for_publishers()
            .query::<FollowersParams>()
            .answers::<FollowersBody>(200, "A page of followers.")
            .refuses(&[Code::Forbidden, Code::NotFound]),
        change("post", "/v1/feeds/{feedId}/publishers", "addPublishers", "Adds publishers, for its maker.").takes::<UsersData>(),
        change("delete", "/v1/feeds/{feedId}/publishers", "removePublishers", "Removes publishers, for its maker, who stays.")
            .takes::<UsersData>(),
        change("post", "/v1/feeds/{feedId}/follow", "followFeed", "The caller follows, or these users.").may_take::<UsersOrNobodyData>(),
        change("post", "/v1/feeds/{feedId}/unfollow", "unfollowFeed", "The caller follows no more, or these users.")
            .may_take::<UsersOrNobodyData>(),
    ]
}
