//! Real files, a real thread, and the questions that the core asks.

#![expect(clippy::disallowed_methods, reason = "files are what is tested")]

#[cfg(feature = "passwords")]
mod passwords;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::protocol::topic::{TopicFilter, TopicName};

/// A directory of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("brooklet-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn security(passwords: Option<&Path>, access: Option<&Path>) -> Rc<Security> {
    Rc::new(Security {
        passwords: passwords.map(|path| path.to_owned().into()),
        access: access.map(|path| path.to_owned().into()),
        checks_retain_source: true,
        ..Security::default()
    })
}

fn here(security: &Rc<Security>) -> Vec<(ListenerId, Rc<Security>)> {
    vec![(ListenerId(0), security.clone())]
}

fn authority(security: &Rc<Security>) -> (Authority, Receiver<()>) {
    guarded_by(&Attempts::new([3; 32]), security)
}

fn guarded_by(attempts: &Attempts, security: &Rc<Security>) -> (Authority, Receiver<()>) {
    let policies = Policies::load(&here(security)).unwrap();
    let (wake, woken) = channel();
    let wake = move || wake.send(()).unwrap_or_default();
    (Authority::new(Rc::new(policies), attempts.clone(), wake).unwrap(), woken)
}

fn client<'a>(connection: Option<ConnectionId>, user_name: Option<&'a str>) -> Client<'a> {
    Client {
        connection,
        peer: None,
        listener: ListenerId(0),
        client_identifier: "c",
        user_name,
        certificate: None,
    }
}

#[test]
fn anonymous_clients_come_in_where_they_may() {
    let open = Rc::new(Security { allows_anonymous: true, ..Security::default() });
    let (mut authority, _) = authority(&open);
    assert!(authority.grants_everything());
    let question = Question::Connect { password: None, now: Time::ZERO };
    assert_eq!(authority.ask(&client(None, None), question), GRANTED);
    assert_eq!(authority.ask(&client(None, Some("u")), question), GRANTED);
    let (mut closed, _) = self::authority(&security(None, None));
    assert!(!closed.grants_everything());
    assert_eq!(closed.ask(&client(None, None), question), refused(ReasonCode::NotAuthorized));
    assert_eq!(closed.ask(&client(None, Some("u")), question), refused(ReasonCode::BadUserNameOrPassword));
    let elsewhere = Client { listener: ListenerId(9), ..client(None, None) };
    assert_eq!(authority.ask(&elsewhere, question), refused(ReasonCode::NotAuthorized));
    let certified = Client { certificate: Some("u"), ..client(None, Some("u")) };
    assert_eq!(closed.ask(&certified, question), GRANTED);
}

#[test]
fn rules_decide_and_say_which_did() {
    let place = Place::new("rules");
    let rules = place.file("acl", "user u\ntopic read r/#\ntopic deny r/x\ntopic write maxqos 1 w\n");
    let (mut authority, _) = authority(&security(None, Some(&rules)));
    let mut ask = |user, question| {
        let answer = authority.ask(&client(None, user), question);
        (answer, authority.why_refused().unwrap_or_default())
    };
    let file = "acl";
    let publish =
        |topic, qos| Question::Publish { topic: TopicName::new(topic).unwrap(), qos, retain: false };
    let receive = |topic| Question::Receive { topic: TopicName::new(topic).unwrap() };
    let source = |topic| Question::BeSource { topic: TopicName::new(topic).unwrap() };
    let subscribe =
        |filter| Question::Subscribe { filter: TopicFilter::new(filter).unwrap(), qos: QoS::ExactlyOnce };
    let denied = refused(ReasonCode::NotAuthorized);
    for (user, question, answer, why) in [
        (
            Some("u"),
            publish("w", QoS::AtLeastOnce),
            Answer::Now(Verdict::GrantedAtMost(QoS::AtLeastOnce)),
            String::new(),
        ),
        (Some("u"), publish("w", QoS::ExactlyOnce), denied, format!("allowed at QoS 1 and less by {file}:4")),
        (Some("u"), publish("r/1", QoS::AtMostOnce), denied, format!("no rule of {file} allows it")),
        (None, publish("w", QoS::AtMostOnce), denied, format!("no rule of {file} allows it")),
        (Some("u"), receive("r/1"), GRANTED, String::new()),
        (Some("u"), receive("r/x"), denied, format!("denied by {file}:3")),
        (Some("u"), source("r/1"), denied, format!("no rule of {file} allows it")),
        (Some("u"), source("w"), Answer::Now(Verdict::GrantedAtMost(QoS::AtLeastOnce)), String::new()),
        (Some("u"), subscribe("r/1"), GRANTED, String::new()),
        (Some("u"), subscribe("r/#"), Answer::Now(Verdict::GrantedInPart(QoS::ExactlyOnce)), String::new()),
        (Some("u"), subscribe("r/x"), denied, format!("denied by {file}:3")),
    ] {
        assert_eq!(ask(user, question), (answer, why), "{user:?} {question:?}");
    }
}

#[test]
fn a_pattern_that_is_not_used_is_the_reason_for_a_denial() {
    let place = Place::new("unused");
    let rules = place.file("acl", "pattern readwrite devices/%u/#\n");
    let (mut authority, _) = authority(&security(None, Some(&rules)));
    let topic = TopicName::new("devices/a/b/x").unwrap();
    let question = Question::Publish { topic, qos: QoS::AtMostOnce, retain: false };
    assert_eq!(authority.ask(&client(None, Some("a/b")), question), refused(ReasonCode::NotAuthorized));
    let why = authority.why_refused().unwrap_or_default();
    assert!(why.contains("acl:1 is not used, since the User Name has a '/'"), "{why}");
}

#[test]
fn a_topic_of_its_own_needs_no_rule() {
    let place = Place::new("own");
    let rules = place.file("acl", "user u\ntopic read r\ntopic deny state\n");
    let own = Security { own_topic: Some("state".into()), ..(*security(None, Some(&rules))).clone() };
    let (mut authority, _) = authority(&Rc::new(own));
    for (topic, is_granted) in [("state", true), ("state/a", false), ("r", false)] {
        let topic = TopicName::new(topic).unwrap();
        let publish = Question::Publish { topic, qos: QoS::AtLeastOnce, retain: true };
        for question in [publish, Question::BeSource { topic }] {
            let answer = authority.ask(&client(None, Some("u")), question);
            assert_eq!(answer == GRANTED, is_granted, "{topic} {question:?}");
        }
        let receive = Question::Receive { topic };
        let is_read = authority.ask(&client(None, Some("u")), receive) == GRANTED;
        assert_eq!(is_read, topic.as_str() == "r");
    }
}

#[test]
fn a_listener_that_no_longer_exists_allows_what_all_others_do() {
    let place = Place::new("common");
    let first = place.file("first", "topic read a/#\ntopic write maxqos 1 w\n");
    let second = place.file("second", "topic read a/b/#\ntopic deny a/b/x\ntopic write w\n");
    let rules = [Some(first), Some(second), None];
    let securities: Vec<_> =
        (0..).zip(&rules).map(|(id, rules)| (ListenerId(id), security(None, rules.as_deref()))).collect();
    let policies = Policies::load(&securities).unwrap();
    let mut authority = Authority::new(Rc::new(policies), Attempts::new([1; 32]), || ()).unwrap();
    let publish = |qos| Question::Publish { topic: TopicName::new("w").unwrap(), qos, retain: false };
    let receive = |topic| Question::Receive { topic: TopicName::new(topic).unwrap() };
    let subscribe =
        |filter| Question::Subscribe { filter: TopicFilter::new(filter).unwrap(), qos: QoS::ExactlyOnce };
    let denied = refused(ReasonCode::NotAuthorized);
    let at_most_once_more = Answer::Now(Verdict::GrantedAtMost(QoS::AtLeastOnce));
    for gone in [ListenerId(3), ListenerId::UNKNOWN] {
        let mut ask = |question| authority.ask(&Client { listener: gone, ..client(None, None) }, question);
        assert_eq!(ask(Question::Stay), GRANTED, "no session ends for that");
        assert_eq!(ask(Question::Connect { password: None, now: Time::ZERO }), denied);
        for (question, answer) in [
            (receive("a/b/1"), GRANTED),
            (receive("a/1"), denied),
            (receive("a/b/x"), denied),
            (receive("c"), denied),
            (subscribe("a/b/1"), GRANTED),
            (subscribe("a/b/#"), Answer::Now(Verdict::GrantedInPart(QoS::ExactlyOnce))),
            (subscribe("c"), denied),
            (publish(QoS::AtLeastOnce), at_most_once_more),
            (publish(QoS::ExactlyOnce), denied),
        ] {
            assert_eq!(ask(question), answer, "{question:?}");
        }
    }
}

#[test]
fn every_fault_in_every_file_is_reported() {
    let place = Place::new("wrong");
    let passwords = place.file("passwords", "x:plain\n");
    let rules = place.file("acl", "topic a#\nnonsense\n");
    let missing = place.0.join("missing");
    let securities = [
        (ListenerId(0), security(Some(&passwords), Some(&rules))),
        (ListenerId(1), security(Some(&passwords), Some(&rules))),
        (ListenerId(2), security(None, Some(&missing))),
    ];
    let wrong = Policies::load(&securities).unwrap_err();
    let places: Vec<&str> = wrong.iter().map(|error| error.place.as_str()).collect();
    let expected = [
        format!("{}:1:3", passwords.display()),
        format!("{}:1:7", rules.display()),
        format!("{}:2:1", rules.display()),
        missing.display().to_string(),
    ];
    assert_eq!(places, expected);
}

#[test]
fn rules_for_users_without_a_password_file_are_pointed_out() {
    let place = Place::new("claimed");
    for (text, expected) in [
        ("user u\ntopic #\n", Some("any user name it gives")),
        ("pattern read in/%u/#\n", Some("any user name it gives")),
        ("", Some("no rules")),
        ("topic #\npattern in/%c\n", None),
    ] {
        let rules = place.file("acl", text);
        let claimed = Rc::new(Security { allows_anonymous: true, ..(*security(None, Some(&rules))).clone() });
        let policies = Policies::load(&here(&claimed)).unwrap();
        let warnings: Vec<String> = policies.warnings().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{text}: {warnings:?}");
        assert!(expected.is_none_or(|part| warnings[0].contains(part)), "{text}: {warnings:?}");
    }
}
