//! Real files, a real thread, and questions as the core asks them.

#![expect(clippy::disallowed_methods, reason = "files are what is tested")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::topic::{TopicFilter, TopicName};

/// A directory of its own, gone at the end.
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
        passwords: passwords.map(Path::to_owned),
        access: access.map(Path::to_owned),
        checks_retain_source: true,
        ..Security::default()
    })
}

fn here(security: &Rc<Security>) -> Vec<(ListenerId, Rc<Security>)> {
    vec![(ListenerId(0), security.clone())]
}

fn authority(security: &Rc<Security>) -> (Authority, Receiver<()>) {
    let policies = Policies::load(&here(security)).unwrap();
    let (wake, woken) = channel();
    let authority = Authority::new(Rc::new(policies), move || wake.send(()).unwrap_or_default());
    (authority.unwrap(), woken)
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
    let question = Question::Connect { password: None };
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
    let file = rules.display();
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
fn a_listener_that_is_not_there_any_more_allows_what_all_present_ones_do() {
    let place = Place::new("common");
    let first = place.file("first", "topic read a/#\ntopic write maxqos 1 w\n");
    let second = place.file("second", "topic read a/b/#\ntopic deny a/b/x\ntopic write w\n");
    let rules = [Some(first), Some(second), None];
    let securities: Vec<_> =
        (0..).zip(&rules).map(|(id, rules)| (ListenerId(id), security(None, rules.as_deref()))).collect();
    let policies = Policies::load(&securities).unwrap();
    let mut authority = Authority::new(Rc::new(policies), || ()).unwrap();
    let publish = |qos| Question::Publish { topic: TopicName::new("w").unwrap(), qos, retain: false };
    let receive = |topic| Question::Receive { topic: TopicName::new(topic).unwrap() };
    let subscribe =
        |filter| Question::Subscribe { filter: TopicFilter::new(filter).unwrap(), qos: QoS::ExactlyOnce };
    let denied = refused(ReasonCode::NotAuthorized);
    let at_most_once_more = Answer::Now(Verdict::GrantedAtMost(QoS::AtLeastOnce));
    for gone in [ListenerId(3), ListenerId::UNKNOWN] {
        let mut ask = |question| authority.ask(&Client { listener: gone, ..client(None, None) }, question);
        assert_eq!(ask(Question::Stay), GRANTED, "no session ends for that");
        assert_eq!(ask(Question::Connect { password: None }), denied);
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
fn all_that_is_wrong_in_all_files_is_said() {
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
    let places: Vec<&str> = wrong.iter().map(|complaint| complaint.place.as_str()).collect();
    let expected = [
        format!("{}:1:3", passwords.display()),
        format!("{}:1:7", rules.display()),
        format!("{}:2:1", rules.display()),
        missing.display().to_string(),
    ];
    assert_eq!(places, expected);
}

#[test]
fn rules_for_users_whom_nobody_verifies_are_pointed_out() {
    let place = Place::new("claimed");
    for (text, expected) in [
        ("user u\ntopic #\n", Some("whoever claims a name")),
        ("pattern read in/%u/#\n", Some("whoever claims a name")),
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

#[cfg(feature = "passwords")]
mod with_passwords {
    use super::*;
    use crate::access::Progress;
    use std::time::Duration;

    use crate::passwords::{Kind, Secret};
    use crate::scram;
    use crate::slots::{ConnectionMark, Slots};

    fn connection() -> ConnectionId {
        Slots::<ConnectionMark, ()>::default().insert_with(|_| ())
    }

    fn line(user: &str, password: &str, kind: Kind) -> String {
        format!("{user}:{}\n", Secret::new(kind, password.as_bytes(), &[5; 16]).unwrap())
    }

    const CHEAP: Kind = Kind::Pbkdf2 { rounds: 2 };

    fn decided(authority: &mut Authority, woken: &Receiver<()>, user: &str, password: &str) -> Verdict {
        let id = connection();
        let question = Question::Connect { password: Some(password.as_bytes()) };
        match authority.ask(&client(Some(id), Some(user)), question) {
            Answer::Now(verdict) => verdict,
            Answer::Later => {
                woken.recv_timeout(Duration::from_secs(30)).unwrap();
                let (connection, verdict) = authority.next_decision().unwrap();
                assert_eq!(connection, id);
                assert_eq!(authority.next_decision(), None);
                verdict
            }
        }
    }

    #[test]
    fn passwords_are_verified_by_the_thread() {
        let place = Place::new("thread");
        let text = line("ann", "pencil", CHEAP) + &line("bob", "eraser", Kind::Scram { rounds: 2 });
        let passwords = place.file("passwords", &text);
        let (mut authority, woken) = authority(&security(Some(&passwords), None));
        for (user, password, expected) in [
            ("ann", "pencil", Verdict::Granted),
            ("bob", "eraser", Verdict::Granted),
            ("ann", "eraser", Verdict::Refused(ReasonCode::BadUserNameOrPassword)),
            ("ann", "pencil\0", Verdict::Refused(ReasonCode::BadUserNameOrPassword)),
            ("eve", "pencil", Verdict::Refused(ReasonCode::BadUserNameOrPassword)),
        ] {
            assert_eq!(decided(&mut authority, &woken, user, password), expected, "{user} {password}");
        }
        let none =
            authority.ask(&client(Some(connection()), Some("ann")), Question::Connect { password: None });
        assert_eq!(none, refused(ReasonCode::BadUserNameOrPassword));
    }

    #[test]
    fn who_guesses_too_often_is_not_verified_any_more() {
        let place = Place::new("guess");
        let text = line("ann", "pencil", CHEAP) + &line("bob", "eraser", CHEAP);
        let (mut authority, woken) = authority(&security(Some(&place.file("passwords", &text)), None));
        let mut try_from = |peer: Option<[u8; 4]>, user: &str, password: &str| {
            let peer = peer.map(|address| Peer::Internet((address, 50_000).into()));
            let question = Question::Connect { password: Some(password.as_bytes()) };
            let answer = authority.ask(&Client { peer, ..client(Some(connection()), Some(user)) }, question);
            if answer == Answer::Later {
                woken.recv_timeout(Duration::from_secs(30)).unwrap();
                return authority.next_decision().unwrap().1;
            }
            let why = authority.why_refused().unwrap_or_default();
            assert_eq!(why, "too many wrong passwords came from its address");
            match answer {
                Answer::Now(verdict) => verdict,
                Answer::Later => unreachable!("it was just looked at"),
            }
        };
        for here in [Some([192, 0, 2, 1]), None] {
            for _ in 0..10 {
                let verdict = try_from(here, "ann", "wrong");
                assert_eq!(verdict, Verdict::Refused(ReasonCode::BadUserNameOrPassword));
            }
            let limited = Verdict::Refused(ReasonCode::ConnectionRateExceeded);
            let expected = if here.is_some() { limited } else { Verdict::Granted };
            assert_eq!(try_from(here, "ann", "pencil"), expected, "whoever is on this machine may go on");
            assert_eq!(try_from(here, "bob", "eraser"), Verdict::Granted);
        }
        assert_eq!(try_from(Some([192, 0, 2, 2]), "ann", "pencil"), Verdict::Granted);
    }

    #[test]
    fn many_guesses_at_once_are_no_more_than_in_turn() {
        let place = Place::new("burst");
        let text = line("ann", "pencil", CHEAP);
        let (mut authority, woken) = authority(&security(Some(&place.file("passwords", &text)), None));
        let peer = Some(Peer::Internet(([192, 0, 2, 1], 50_000).into()));
        let mut connections = Slots::<ConnectionMark, ()>::default();
        for number in 0..=20 {
            let client = Client { peer, ..client(Some(connections.insert_with(|_| ())), Some("ann")) };
            let password: &[u8] = if number == 20 { b"pencil" } else { b"wrong" };
            assert_eq!(authority.ask(&client, Question::Connect { password: Some(password) }), Answer::Later);
        }
        let verdicts = (0..=20).map(|_| {
            woken.recv_timeout(Duration::from_secs(30)).unwrap();
            authority.next_decision().unwrap().1
        });
        let (wrong, limited) = (ReasonCode::BadUserNameOrPassword, ReasonCode::ConnectionRateExceeded);
        let expected = (0..=20).map(|number| Verdict::Refused(if number < 10 { wrong } else { limited }));
        assert!(verdicts.eq(expected), "the right one among them, too");
    }

    /// What comes of one exchange.
    fn by_scram(authority: &mut Authority, peer: Peer, user: &str, password: &str) -> Progress {
        let mut exchange = authority.begin(ListenerId(0), peer, "SCRAM-SHA-256").unwrap();
        let first = format!("n={user},r=abc");
        let Progress::Challenge(text) = exchange.go_on(format!("n,,{first}").as_bytes()) else {
            return exchange.go_on(b"");
        };
        let text = String::from_utf8(text).unwrap();
        exchange.go_on(scram::answer(&first, &text, password).as_bytes())
    }

    #[test]
    fn guesses_by_scram_count_as_well() {
        let place = Place::new("scram-guess");
        let kept = place.file("kept", &line("ann", "pencil", Kind::Scram { rounds: 2 }));
        let (mut authority, woken) = authority(&security(Some(&kept), None));
        let peer = Peer::Internet(([192, 0, 2, 1], 50_000).into());
        assert!(matches!(by_scram(&mut authority, peer, "ann", "pencil"), Progress::Passed { .. }));
        for _ in 0..10 {
            let progress = by_scram(&mut authority, peer, "ann", "wrong");
            assert!(matches!(progress, Progress::Failed(ReasonCode::NotAuthorized, _)), "{progress:?}");
        }
        let mut exchange = authority.begin(ListenerId(0), peer, "SCRAM-SHA-256").unwrap();
        let progress = exchange.go_on(b"n,,n=ann,r=abc");
        assert!(matches!(progress, Progress::Failed(ReasonCode::ConnectionRateExceeded, _)), "{progress:?}");
        let question = Question::Connect { password: Some(b"pencil") };
        let here = Client { peer: Some(peer), ..client(Some(connection()), Some("ann")) };
        assert_eq!(authority.ask(&here, question), refused(ReasonCode::ConnectionRateExceeded));
        assert!(matches!(by_scram(&mut authority, Peer::Local, "ann", "pencil"), Progress::Passed { .. }));
        assert_eq!(decided(&mut authority, &woken, "ann", "pencil"), Verdict::Granted);
    }

    #[test]
    fn a_reload_does_not_show_who_exists() {
        let place = Place::new("decoys");
        let text =
            line("ann", "pencil", Kind::Scram { rounds: 2 }) + &line("bob", "ink", Kind::Scram { rounds: 3 });
        let kept = place.file("kept", &text);
        let challenges = || -> Vec<String> {
            let (mut authority, _) = authority(&security(Some(&kept), None));
            let mut challenge = |user: String| {
                let mut exchange = authority.begin(ListenerId(0), Peer::Local, "SCRAM-SHA-256").unwrap();
                let Progress::Challenge(text) = exchange.go_on(format!("n,,n={user},r=abc").as_bytes())
                else {
                    panic!("{user} is not challenged");
                };
                String::from_utf8(text).unwrap().split_once(",s=").unwrap().1.to_owned()
            };
            (0..50).map(|number| challenge(format!("nobody{number}"))).collect()
        };
        let before = challenges();
        assert_eq!(challenges(), before);
        let of_bob = before.iter().filter(|challenge| challenge.ends_with("i=3")).count();
        assert!((1..50).contains(&of_bob), "strangers have rounds as users have them: {of_bob} of 50");
    }

    #[test]
    fn no_more_than_a_megabyte_of_passwords_waits() {
        let place = Place::new("busy");
        let passwords = place.file("passwords", &line("ann", "pencil", Kind::Pbkdf2 { rounds: 30_000 }));
        let (mut authority, _woken) = authority(&security(Some(&passwords), None));
        let long = vec![b'x'; 65_535];
        let question = Question::Connect { password: Some(&long) };
        let answers: Vec<Answer> =
            (0..17).map(|_| authority.ask(&client(Some(connection()), Some("ann")), question)).collect();
        assert_eq!(answers[0], Answer::Later);
        assert_eq!(answers[16], refused(ReasonCode::ServerBusy));
    }

    #[test]
    fn who_is_gone_or_has_another_password_may_not_stay() {
        let place = Place::new("stay");
        let old = line("ann", "pencil", CHEAP) + &line("bob", "eraser", CHEAP) + &line("cay", "ink", CHEAP);
        let new = line("ann", "pencil", CHEAP) + &line("bob", "rubber", CHEAP);
        let security = security(Some(&place.file("passwords", &old)), None);
        let former = Policies::load(&here(&security)).unwrap();
        place.file("passwords", &new);
        let mut policies = Policies::load(&here(&security)).unwrap();
        policies.follow(&former);
        let mut authority = Authority::new(Rc::new(policies), || ()).unwrap();
        for (user, expected) in [
            (Some("ann"), GRANTED),
            (Some("bob"), refused(ReasonCode::BadUserNameOrPassword)),
            (Some("cay"), refused(ReasonCode::NotAuthorized)),
            (None, refused(ReasonCode::NotAuthorized)),
        ] {
            assert_eq!(authority.ask(&client(None, user), Question::Stay), expected, "{user:?}");
        }
    }

    #[test]
    fn scram_needs_a_user_with_a_verifier() {
        let place = Place::new("scram");
        let plain = place.file("plain", &line("ann", "pencil", CHEAP));
        let (mut without, _) = authority(&security(Some(&plain), None));
        assert!(without.begin(ListenerId(0), Peer::Local, "SCRAM-SHA-256").is_none());
        let kept = place.file("kept", &line("ann", "pencil", Kind::Scram { rounds: 2 }));
        let (mut with, _) = authority(&security(Some(&kept), None));
        assert!(with.begin(ListenerId(0), Peer::Local, "SCRAM-SHA-1").is_none());
        assert!(with.begin(ListenerId(1), Peer::Local, "SCRAM-SHA-256").is_none());
        let mut salts = Vec::new();
        for user in ["ann", "eve", "eve"] {
            let mut exchange = with.begin(ListenerId(0), Peer::Local, "SCRAM-SHA-256").unwrap();
            assert_eq!(exchange.go_on(b""), Progress::Challenge(Vec::new()));
            let Progress::Challenge(text) = exchange.go_on(format!("n,,n={user},r=abc").as_bytes()) else {
                panic!("{user} is not challenged");
            };
            let text = String::from_utf8(text).unwrap();
            let salt = text.split(",s=").nth(1).unwrap().to_owned();
            assert!(salt.ends_with(",i=2"), "{text}");
            salts.push(salt);
            let last = format!("c=biws,{},p={}", text.split(',').next().unwrap(), "A".repeat(43) + "=");
            assert!(matches!(
                exchange.go_on(last.as_bytes()),
                Progress::Failed(ReasonCode::NotAuthorized, _)
            ));
        }
        assert_eq!(salts[1], salts[2]);
        assert_ne!(salts[0], salts[1]);
        assert_eq!(salts[0].len(), salts[1].len());
    }

    #[test]
    fn passwords_that_everybody_can_read_are_pointed_out() {
        let place = Place::new("mode");
        let passwords = place.file("passwords", &line("ann", "pencil", CHEAP));
        let security = here(&security(Some(&passwords), None));
        assert_eq!(Policies::load(&security).unwrap().warnings().count(), 0);
        fs::set_permissions(&passwords, fs::Permissions::from_mode(0o644)).unwrap();
        let policies = Policies::load(&security).unwrap();
        let warnings: Vec<String> = policies.warnings().map(ToString::to_string).collect();
        assert!(warnings.len() == 1 && warnings[0].contains("mode 0644"), "{warnings:?}");
    }
}
