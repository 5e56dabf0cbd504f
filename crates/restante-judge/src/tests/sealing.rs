//! Encryption at rest: the database does not have the text of Anna's messages. Good histories, and for each rule one that breaks it.

use super::*;

/// The good case in a database that is encrypted.
fn sealed() -> Case {
    let mut case = Case::good();
    for message in case.evidence.snapshot.messages.values_mut() {
        (message.content, message.is_sealed) = (String::new(), true);
    }
    case
}

#[test]
fn what_is_sealed_has_the_content_that_its_sender_gave_it() {
    assert_eq!(sealed().broken_rules(), []);
    let mut case = sealed();
    for record in &mut case.ben.0 {
        if let Event::Received { message, content, .. } = &mut record.event
            && *message == id(2)
        {
            *content = "something else".into();
        }
    }
    assert_eq!(case.broken_rules(), [Rule::Altered]);
}

#[test]
fn what_cannot_be_read_is_found() {
    let with = |event: Event| {
        let mut case = sealed();
        case.ben = case.ben.then(1, event);
        case.broken_rules()
    };
    assert_eq!(with(Event::Unreadable { id: id(2), class: Class::Chat }), [Rule::Unreadable]);
    assert_eq!(with(Event::Gap { class: Class::Event, from: 1, to: 1, reason: "unreadable".into() }), [Rule::Unreadable]);
    assert_eq!(with(Event::Gap { class: Class::Event, from: 1, to: 1, reason: "expired".into() }), []);
    let mut case = sealed();
    case.evidence.snapshot.keyless = vec![id(2)];
    assert_eq!(case.broken_rules(), [Rule::Unreadable]);
}

#[test]
fn plain_text_in_a_database_that_is_encrypted_is_found() {
    let mut case = sealed();
    case.evidence.snapshot.in_plain = vec![id(2)];
    assert_eq!(case.broken_rules(), [Rule::Plain]);
}
