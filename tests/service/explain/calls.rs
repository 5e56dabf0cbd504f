//! Calls of the functions of the schema, in statements: those that the service or an operator makes, with the values of a database. What
//! their plans are like is for the tests to say.

use sqlx::PgConnection;

use super::{Known, run};

/// The calls of the lanes.
pub(super) fn lanes(known: &Known) -> [String; 4] {
    let Known { user, chat, messages: [one, _], .. } = known;
    let accept = |skip_held: bool| {
        format!(
            "select count(*) from restante_accept(array[gen_random_uuid(), gen_random_uuid(), '{one}'], array['{chat}', '{chat}', '{chat}']::uuid[], \
             array[{user}, {user}, {user}], array['text', 'text', 'text'], array['x', 'y', 'z'], array[null, null, null], array[null, null, null]::timestamptz[], {skip_held})"
        )
    };
    let rows = format!(
        "(select array_agg(q.user_id) as users, array_agg(q.class) as classes, array_agg(q.seq) as seqs \
          from (select user_id, class, seq from message_status where user_id = {user} and class = 'chat' and status = 'sent' order by seq limit 5) q) r"
    );
    let attempt = format!(
        "select count(*) from {rows}, restante_attempt(r.users, r.classes, r.seqs, array_fill('x'::text, array[5]), array_fill(false, array[5]), 5)"
    );
    let settle = format!(
        "select count(*) from {rows}, restante_settle(r.users, r.classes, r.seqs, array[{user}]::bigint[], array['{chat}']::uuid[], array[0]::bigint[], array[{user}]::bigint[], array['{chat}']::uuid[], array[{user}]::bigint[], array['device-1'], array['chat']::inbox_class[], array[1]::bigint[])"
    );
    [accept(false), accept(true), attempt, settle]
}

/// A call about an invitation of a user `u` to a chat `c` by the known one, `i`.
fn invitation(Known { user, chat, .. }: &Known, call: &str) -> String {
    format!(
        "select {call} from users u, users i, chats c where u.is_current and u.external_id = 'user-35' and i.id = {user} and c.id = '{chat}'"
    )
}

/// Direct chats that are there and such that are made, with users who are new and with nobody.
pub(super) fn direct_chats(Known { user, .. }: &Known) -> String {
    format!(
        "select count(*) from restante_direct_chats(array[{user}, {user}, {user}, {user}], \
         array['user-35', 'user-' || random(), 'nobody', 'user-36'], array[true, true, false, true])"
    )
}

/// The calls of feeds: one that is new, with a follower, and what is left to be written.
fn feeds(Known { user, name, .. }: &Known) -> Vec<String> {
    let feed = "0fffffff-0000-0000-0000-000000000001";
    let keyed = format!(
        "select restante_publish('{name}', 'x', '{{}}', array['user-40', 'user-50'], p_collapse_key => 'key', p_urgent => true, p_merge => '{{\"n\": \"count\"}}') from generate_series(1, 2)"
    );
    vec![
        format!("select restante_make_feed('{name}', 'title', array['user-35'], '{feed}')"),
        format!("select restante_set_publishers('{feed}', {user}, false, array[{user}], array[7]::bigint[], 500)"),
        format!("select restante_follow('{feed}', array['user-40', 'user-41'])"),
        format!(
            "select restante_publish('{name}', 'x', '{{}}', p_feed => '{feed}', p_except => array['user-41'], p_collapse_key => 'key', p_merge => '{{\"n\": \"count\"}}')"
        ),
        format!(
            "select restante_publish('{name}', 'x', '{{}}'), restante_publish('{name}', 'x', '{{}}', array['user-40', 'user-41', 'user-50'])"
        ),
        "set constraints all immediate".to_owned(),
        format!("set constraints all deferred; {keyed}; set constraints all immediate"),
        format!("set constraints all deferred; {keyed}; set constraints all immediate"),
        format!("select count(*) from restante_count_untaken({user}, 'event', 1001)"),
        format!("select users from restante_take_together('00000000-0000-0000-0000-000000000001', array[{user}, 7], 8, 1000)"),
        "select numbers from users u, restante_take(u.id, 'event', 50, 1000) where u.is_current and u.external_id = 'user-40'".to_owned(),
        format!("select numbers from restante_take({user}, 'event', 50, 1)"),
        format!("select numbers from restante_take({user}, 'event', 50, 1000)"),
        format!("select restante_make_room({user}, 'event', 1)"),
        "select rows_done from restante_fan_out(0, 'chat', 500, 1000)".to_owned(),
        format!("select restante_unfollow('{feed}', array['user-40'])"),
        "select restante_purge_inboxes(0, 0, 'chat', 500, 1000)".to_owned(),
        "select restante_purge_listed_events('event', 0, 1000)".to_owned(),
        "select restante_purge_chats(0, '00000000-0000-0000-0000-000000000000', 100000, 1000)".to_owned(),
    ]
}

/// The calls of an erasure, one stage after the other.
fn of_erasing(Known { user, name, chat, .. }: &Known) -> Vec<String> {
    let at = |stage: &str, chat: &str| {
        let moved = "on conflict (user_id) do update set stage = excluded.stage, chat_id = excluded.chat_id";
        format!("insert into erasures (user_id, empties, stage, chat_id) values ({user}, true, '{stage}', '{chat}') {moved}")
    };
    let nil = uuid::Uuid::nil().to_string();
    vec![
        format!("select outcome from restante_erase_user('{name}', true)"),
        format!("select restante_leave_direct({user}, '{chat}')"),
        at("chats", chat),
        format!("select restante_erase_messages({user}, '{chat}', 25)"),
        at("events", &nil),
        format!("select restante_erase_events({user}, 1000)"),
        at("inbox", &nil),
        format!("select count(*) from restante_erase_inbox({user}, 500)"),
        at("name", &nil),
        format!("select restante_pass_on_name({user}, 1000)"),
        at("people", &nil),
        format!("select restante_end_erasure_round({user})"),
    ]
}

/// The calls of a node: its life, its users, and its jobs.
fn of_nodes(Known { user, .. }: &Known) -> Vec<String> {
    vec![
        "select count(*) from restante_beat('00000000-0000-0000-0000-00000000000a', 8000)".to_owned(),
        format!("select count(*) from restante_arrive('00000000-0000-0000-0000-00000000000a', array[{user}]::bigint[])"),
        format!(
            "select count(*) from restante_depart('00000000-0000-0000-0000-00000000000a', array[{user}]::bigint[], array[2500]::bigint[])"
        ),
        "select restante_leave('00000000-0000-0000-0000-00000000000a', 0)".to_owned(),
        "select count(*) from restante_reap(1000)".to_owned(),
        "select count(*) from restante_acquire_job('expire', '00000000-0000-0000-0000-00000000000a', 8000)".to_owned(),
        "select count(*) from restante_acquire_job('a new one', '00000000-0000-0000-0000-00000000000a', 8000)".to_owned(),
        "select restante_advance_job('expire', '00000000-0000-0000-0000-00000000000a', 1, 'x', 8000)".to_owned(),
        "select restante_release_job('expire', '00000000-0000-0000-0000-00000000000a', 1)".to_owned(),
    ]
}

/// The calls of users and operators before those of the lanes.
fn before_lanes(known: &Known) -> Vec<String> {
    let Known { user, chat, messages: [_, two], .. } = known;
    let dead_letters = |of: &str| {
        format!(
            "select count(*) from restante_dead_letters({of}, 'epoch', 'x', 'infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 9000000000000000000, 50)"
        )
    };
    vec![
        format!(
            "select count(*) from users u, restante_open(u.external_id, 'name', null, 'device-1', '{{1,1,1}}', 1001, '{{chat,alert,event}}') where u.id = {user}"
        ),
        format!("select restante_discard('{two}', (select external_id from users where id = {user}))"),
        format!("select restante_discard('{two}', (select external_id from users where id = {user}))"),
        format!("update endings set discarded_at = null where message_id = '{two}' and user_id = {user}"),
        dead_letters("null, null, null"),
        dead_letters(&format!("null, (select external_id from users where id = {user}), null")),
        dead_letters(&format!(
            "(select external_id from users where id = (select sender_id from messages where id = '{two}')), null, null"
        )),
        dead_letters(&format!("null, null, '{two}'")),
        format!("select restante_requeue('{two}', (select external_id from users where id = {user}))"),
        format!("select restante_advance_settled({user}, 'chat')"),
        "select count(*) from restante_users(array['user-36', 'user-' || random()])".to_owned(),
        format!("select restante_direct_chat({user}, {user})"),
        format!("insert into marks_behind (chat_id, user_id) values ('{chat}', {user})"),
        "select restante_catch_up_marks(4)".to_owned(),
        format!("insert into departures (user_id, chat_id, after_seq, up_to_seq) values ({user}, '{chat}', 0, 0)"),
        "select count(*) from restante_end_departures(1000)".to_owned(),
        direct_chats(known),
        format!(
            "select restante_strangers(array[{user}, 7], {user}), restante_invitations_left({user}), restante_invited_beside('{chat}', array[{user}], 5000)"
        ),
        invitation(known, "restante_why_not_invite(c.id, i.id, array[u.id])"),
        invitation(known, "restante_put_invitations(c.id, i.id, array[u.id])"),
        invitation(known, "restante_turn_down_invitation(u.id, c.id), restante_end_invitations(null, array[u.id], i.id)"),
        invitation(known, "restante_put_invitations(c.id, i.id, array[u.id])"),
        invitation(known, "restante_take_invitation(u.id, c.id, 5000)"),
        invitation(known, "restante_end_invitations(c.id, array[u.id])"),
        format!("select count(*) from users u, restante_put_block({user}, u.id, 10000) where u.is_current and u.external_id = 'user-35'"),
        direct_chats(known),
        format!("select count(*) from users u, restante_take_block_back({user}, u.id) where u.is_current and u.external_id = 'user-35'"),
        "select restante_block('one', 'another'), restante_unblock('one', 'another')".to_owned(),
        "select restante_request_contact('one', 'user-35'), restante_accept_contact('user-35', 'one')".to_owned(),
        "select restante_request_contact('one', 'another'), restante_decline_contact('another', 'one')".to_owned(),
        format!(
            "select outcomes from restante_accept(array[gen_random_uuid()], array[restante_direct_chat({user}, (select id from users where is_current and external_id = 'user-35'))], \
             array[{user}], array['text'], array['x'], array[null], array[null]::timestamptz[], false, array['contacts'])"
        ),
        format!("select restante_ask_may_send({user}, '{chat}', null), restante_ask_may_send({user}, null, 'user-35')"),
        "select restante_remove_contact('one', 'user-35')".to_owned(),
        format!("select count(*) from restante_add_named_members('{chat}', {user}, array['user-36', 'user-' || random()], true, 5000)"),
    ]
}

/// The calls of what follows: reads, ends, recalls, and what is removed.
fn after_lanes(known: &Known) -> Vec<String> {
    let Known { user, chat, messages: [one, two], .. } = known;
    let recall = |message: &String| {
        let sender = format!("select external_id from users where id = (select sender_id from messages where id = '{message}')");
        format!("select restante_recall('{message}', ({sender}), null)")
    };
    vec![
        format!("select count(*) from restante_read(array[{user}]::bigint[], array['{chat}']::uuid[], array[20]::bigint[], 2000)"),
        format!("select count(*) from restante_read(array[{user}]::bigint[], array['{chat}']::uuid[], array[1000000]::bigint[], 2000)"),
        format!("select count(*) from delivery_trace('{one}')"),
        "select count(*) from restante_expire('epoch', '00000000-0000-0000-0000-000000000000', now() + interval '3 hours', 500, 2000)"
            .to_owned(),
        format!("select restante_send('{chat}', (select external_id from users where id = {user}), 'from SQL') from generate_series(1, 3)"),
        "set constraints all immediate".to_owned(),
        recall(one),
        recall(two),
        "select count(*) from restante_recall_part(null, '00000000-0000-0000-0000-000000000000', 500)".to_owned(),
        format!("select count(*) from restante_recall_part('{two}', '00000000-0000-0000-0000-000000000000', 500)"),
        "select count(*) from restante_purge_inboxes(0, 0, 'chat', 500, 1000)".to_owned(),
        format!(
            "insert into messages (id, chat_id, seq, sender_id, content, created_at) \
             select gen_random_uuid(), md5('direct 7')::uuid, 1, {user}, 'alone', 'epoch'"
        ),
        "select count(*) from restante_purge_chats(0, '00000000-0000-0000-0000-000000000000', 100000, 1000)".to_owned(),
        "select count(*) from restante_purge_listed_events('event', 0, 1000)".to_owned(),
        "select count(*) from restante_purge_last_seen(0, 0, 1000)".to_owned(),
        format!(
            "select count(*) from restante_accept(array['01000000-0000-7000-8000-000000000001']::uuid[], array['{chat}']::uuid[], array[{user}], \
             array['text'], array['x'], array[null], array[null]::timestamptz[])"
        ),
    ]
}

/// Calls each function of the schema that the service or an operator calls, once. The calls are rolled back, except those that have to
/// be committed.
pub(super) async fn use_everything(connection: &mut PgConnection, known: &Known) {
    run(connection, "begin").await;
    for step in feeds(known) {
        run(connection, &step).await;
    }
    run(connection, "rollback").await;
    run(connection, "begin").await;
    for step in
        before_lanes(known).into_iter().chain(lanes(known)).chain(after_lanes(known)).chain(of_erasing(known)).chain(of_nodes(known))
    {
        run(connection, &step).await;
    }
    run(connection, "rollback").await;
}
