//! Rights are decided in one place: doors read a token, ask the table of rights, and decide nothing by themselves.

use super::{Source, files_under, is_for_tests, root, sources, test_files};

/// Where a token is verified. Each of them asks the table.
const VERIFIES: [&str; 2] = ["src/http/extract.rs", "src/driver/commands/authenticate.rs"];
/// The extractors by which a handler is given its caller.
const CALLERS: [&str; 4] = ["Caller(caller): Caller", "PublishCaller(", "Admin(admin): Admin", "}: LoginCaller"];
/// Handlers that ask the service for a caller without a token.
const WITHOUT_TOKEN: [&str; 4] =
    ["src/http/accounts.rs: register", "src/http/accounts.rs: log_in", "src/http/accounts.rs: refresh", "src/http/accounts.rs: log_out"];

/// Acts that are about the caller alone, or about nobody: its token decides, and no relation does.
const WITHOUT_RELATION: [&str; 29] = [
    "Connect",
    "ReadInbox",
    "ListChats",
    "MakeChat",
    "SeePresence",
    "SeePreferences",
    "ChangePreferences",
    "ListContacts",
    "ListBlocks",
    "ListInvitations",
    "ChangePassword",
    "EndLogins",
    "ListFeeds",
    "MakeFeed",
    "Publish",
    "ListDeadLetters",
    "SeeDeadLetter",
    "Requeue",
    "Discard",
    "ListAudit",
    "ListRevocations",
    "Revoke",
    "SeeErasure",
    "EraseUser",
    "ListLimits",
    "SetLimit",
    "SeeStatistics",
    "ListDataKeys",
    "RotateDataKeys",
];

/// The files of the service, without those of tests.
fn of_service() -> Vec<Source> {
    let all = sources();
    let tests = test_files(&all);
    all.into_iter().filter(|source| source.package() == "restante" && !is_for_tests(source, &tests)).collect()
}

/// Broken by a handler that looks for `admin` in the scope of its caller.
#[test]
fn only_the_table_of_rights_reads_the_words_of_a_scope() {
    for source in of_service() {
        let name = source.name();
        if ["src/auth", "src/service/may", "src/cli/"].iter().any(|place| name.starts_with(place)) {
            continue;
        }
        for (n, line) in source.code_without_tests() {
            let reads =
                ["Scope::SEND", "Scope::ADMIN", "Scope::EVENTS_WRITE", ".has(Scope", "scope.has("].iter().any(|way| line.contains(way));
            let is_asked = line.match_indices(".scope").count() == line.match_indices("Role::of(&identity.scope)").count();
            assert!(!reads && is_asked, "{name}:{n}: ask the table of rights: {line}");
        }
    }
}

/// Broken by a door that verifies a token by itself.
#[test]
fn tokens_are_verified_where_the_table_of_rights_is_asked_and_nowhere_else() {
    for source in of_service() {
        let name = source.name();
        let code: String = source.code_without_tests().map(|(_, line)| format!("{line}\n")).collect();
        let verifies = ["verify_or_wait(", "verifier.verify("].iter().any(|way| code.contains(way));
        assert_eq!(verifies && !name.starts_with("src/auth"), VERIFIES.contains(&name.as_str()), "{name}");
        assert!(!VERIFIES.contains(&name.as_str()) || code.contains("may(role, acts::of(") || code.contains("may(Role::of("), "{name}");
    }
    let commands = of_service().into_iter().find(|source| source.name() == "src/driver/commands/mod.rs").unwrap();
    let apply = commands.text.split_once("pub fn apply<").unwrap().1;
    let body = apply.split_once("match event {").unwrap().0;
    assert!(body.contains("may(driver.client.role, acts::of(&event), "), "a command is executed before the table is asked: {body}");
}

/// Broken by a handler without an extractor of its caller: it would be open to everybody.
#[test]
fn each_handler_that_asks_the_service_has_a_caller() {
    let mut handlers = 0;
    for source in of_service().iter().filter(|source| source.module() == "http") {
        for handler in source.text.split("pub(super) async fn ").skip(1) {
            let head = handler.split_once(") ->").map_or(handler, |(head, _)| head);
            let name = format!("{}: {}", source.name(), head.split('(').next().unwrap());
            if head.contains("State<Service>") && !WITHOUT_TOKEN.contains(&name.as_str()) {
                handlers += 1;
                assert_eq!(CALLERS.iter().filter(|caller| head.contains(**caller)).count(), 1, "{name}: {head}");
            }
        }
    }
    assert!(handlers > 45, "{handlers} handlers");
}

/// The table of rights is open to every relation that it does not name. So each act has its outcomes in `tests/service/rights`, or no relation counts for it.
/// Broken by an act that nobody has put into a table there.
#[test]
fn each_act_has_its_outcomes_in_a_test_or_depends_on_no_relation() {
    let acts = std::fs::read_to_string(root().join("src/service/may/act.rs")).unwrap();
    let acts = acts.split_once("pub enum Act {").unwrap().1.split_once("\n}").unwrap().0;
    let acts: Vec<&str> = acts.lines().filter_map(|line| line.trim().strip_suffix(',')).filter(|line| !line.starts_with("///")).collect();
    assert!(acts.len() > 50, "{acts:?}");
    let tests: Vec<String> =
        files_under(&root().join("tests/service/rights")).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let rows = tests.iter().flat_map(|text| text.lines()).filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>();
    for act in &acts {
        let is_tried = [format!("(Act::{act}, ["), format!("of_table(\"\", Act::{act}, relation)")]
            .iter()
            .any(|row| rows.iter().any(|line| line.contains(row)));
        assert!(
            is_tried != WITHOUT_RELATION.contains(act),
            "{act}: say in a table of tests/service/rights what comes of it, or here that no relation counts"
        );
    }
    assert!(WITHOUT_RELATION.iter().all(|act| acts.contains(act)), "an act that there is not");
}
