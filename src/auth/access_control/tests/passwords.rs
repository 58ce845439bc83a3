//! Passwords, the real thread that verifies them, and guesses.

use std::time::Duration;

use super::*;
use crate::auth::passwords::{Kind, Secret};
use crate::auth::scram;
use crate::base::memory;
use crate::base::peer::Peer;
use crate::core::access::Progress;
use crate::core::slots::{ConnectionMark, Slots};

fn connection() -> ConnectionId {
    Slots::<ConnectionMark, ()>::default().insert_with(|_| ())
}

fn line(user: &str, password: &str, kind: Kind) -> String {
    format!("{user}:{}\n", Secret::new(kind, password.as_bytes(), &[5; 16]).unwrap())
}

const CHEAP: Kind = Kind::Pbkdf2 { rounds: 2 };

fn decided(authority: &mut Authority, woken: &Receiver<()>, user: &str, password: &str) -> Verdict {
    let id = connection();
    let question = Question::Connect { password: Some(password.as_bytes()), now: Time::ZERO };
    match authority.ask(&client(Some(id), Some(user)), question) {
        Answer::Now(verdict) => verdict,
        Answer::Later => {
            woken.recv_timeout(Duration::from_secs(30)).unwrap();
            let (connection, verdict) = authority.next_decision(Time::ZERO).unwrap();
            assert_eq!(connection, id);
            assert_eq!(authority.next_decision(Time::ZERO), None);
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
    let none = authority
        .ask(&client(Some(connection()), Some("ann")), Question::Connect { password: None, now: Time::ZERO });
    assert_eq!(none, refused(ReasonCode::BadUserNameOrPassword));
}

/// Asks whether a client may connect, and waits for the answer.
fn try_from(
    (authority, woken): &mut (Authority, Receiver<()>),
    peer: Option<[u8; 4]>,
    device: &str,
    (user, password): (&str, &str),
) -> Verdict {
    let peer = peer.map(|address| Peer::Internet((address, 50_000).into()));
    let client = client(Some(connection()), Some(user));
    let client = Client { peer, client_identifier: device, ..client };
    match authority.ask(&client, Question::Connect { password: Some(password.as_bytes()), now: Time::ZERO }) {
        Answer::Now(verdict) => verdict,
        Answer::Later => loop {
            if let Some((_, verdict)) = authority.next_decision(Time::ZERO) {
                return verdict;
            }
            woken.recv_timeout(Duration::from_secs(30)).unwrap();
        },
    }
}

const WRONG: Verdict = Verdict::Refused(ReasonCode::BadUserNameOrPassword);
const LIMITED: Verdict = Verdict::Refused(ReasonCode::ConnectionRateExceeded);
const BUSY: Verdict = Verdict::Refused(ReasonCode::ServerBusy);

#[test]
fn a_client_that_guesses_too_often_is_no_longer_verified() {
    let place = Place::new("guess");
    let text = line("ann", "pencil", CHEAP) + &line("bob", "eraser", CHEAP);
    let mut door = authority(&security(Some(&place.file("passwords", &text)), None));
    let mut attempt = |peer, user, password: &str| try_from(&mut door, peer, "c", (user, password));
    for here in [Some([192, 0, 2, 1]), None] {
        for number in 0..10 {
            assert_eq!(attempt(here, "ann", &format!("wrong {number}")), WRONG);
        }
        let expected = if here.is_some() { LIMITED } else { Verdict::Granted };
        assert_eq!(attempt(here, "ann", "pencil"), expected, "a client on this machine may go on");
        assert_eq!(attempt(here, "bob", "eraser"), Verdict::Granted);
    }
    assert_eq!(attempt(Some([192, 0, 2, 2]), "ann", "pencil"), Verdict::Granted);
}

#[test]
fn a_client_that_has_waited_for_a_minute_of_the_broker_is_verified_again() {
    let place = Place::new("minute");
    let mut door = authority(&security(Some(&place.file("passwords", &line("ann", "pencil", CHEAP))), None));
    let here = [192, 0, 2, 1];
    for number in 0..10 {
        assert_eq!(try_from(&mut door, Some(here), "c", ("ann", &format!("wrong {number}"))), WRONG);
    }
    let peer = Some(Peer::Internet((here, 50_000).into()));
    for (second, expected) in [(59, Answer::Now(LIMITED)), (60, Answer::Later)] {
        let client = Client { peer, ..client(Some(connection()), Some("ann")) };
        let now = Time::from_milliseconds(1_000 * second);
        let question = Question::Connect { password: Some(b"pencil"), now };
        assert_eq!(door.0.ask(&client, question), expected, "{second}");
    }
}

#[test]
fn a_stale_device_locks_no_other_client_out() {
    let place = Place::new("stale");
    let users = place.file("passwords", &line("ann", "pencil", CHEAP));
    let mut door = authority(&security(Some(&users), None));
    let home = Some([192, 0, 2, 1]);
    for _ in 0..500 {
        assert_eq!(try_from(&mut door, home, "stale", ("ann", "crayon")), WRONG);
    }
    assert_eq!(try_from(&mut door, home, "other", ("ann", "pencil")), Verdict::Granted);
    // Once its password is right after all, it is accepted at once.
    place.file("passwords", &line("ann", "crayon", CHEAP));
    let mut door = (guarded_by(&door.0.attempts.clone(), &security(Some(&users), None)).0, door.1);
    assert_eq!(try_from(&mut door, home, "stale", ("ann", "crayon")), Verdict::Granted);
    assert_eq!(try_from(&mut door, home, "other", ("ann", "pencil")), WRONG);
}

#[test]
fn a_known_device_passes_next_to_a_guesser_also_after_a_reload() {
    let place = Place::new("fleet");
    let text = line("ann", "pencil", CHEAP) + &line("bob", "eraser", Kind::Scram { rounds: 2 });
    let users = place.file("passwords", &text);
    let mut door = authority(&security(Some(&users), None));
    let home = [192, 0, 2, 1];
    assert_eq!(try_from(&mut door, Some(home), "lamp", ("ann", "pencil")), Verdict::Granted);
    let peer = Peer::Internet((home, 50_000).into());
    assert!(matches!(by_scram(&mut door.0, peer, "bob", "eraser"), Progress::Passed { .. }));
    for number in 0..300 {
        let (device, password) = (format!("x{number}"), format!("wrong {number}"));
        let verdict = try_from(&mut door, Some(home), &device, ("ann", &password));
        assert_eq!(verdict, if number < 10 { WRONG } else { LIMITED });
        // The right password passes until the address has reached its limit, too.
        let expected = if number < 99 { Verdict::Granted } else { LIMITED };
        if number % 11 == 0 {
            assert_eq!(try_from(&mut door, Some(home), "lamp", ("ann", "pencil")), Verdict::Granted);
            let new = format!("new {number}");
            assert_eq!(try_from(&mut door, Some(home), &new, ("ann", "pencil")), expected, "{number}");
        }
    }
    let mut door = (guarded_by(&door.0.attempts.clone(), &security(Some(&users), None)).0, door.1);
    assert_eq!(try_from(&mut door, Some(home), "lamp", ("ann", "pencil")), Verdict::Granted);
    assert_eq!(try_from(&mut door, Some(home), "new", ("ann", "pencil")), LIMITED, "counts survive");
    assert!(matches!(by_scram(&mut door.0, peer, "bob", "eraser"), Progress::Passed { .. }));
    let other = try_from(&mut door, Some([192, 0, 2, 2]), "lamp", ("ann", "pencil"));
    assert_eq!(other, Verdict::Granted);
}

#[test]
fn an_operator_may_want_another_number_of_attempts_or_none() {
    let place = Place::new("number");
    let users = place.file("passwords", &line("ann", "pencil", CHEAP));
    for (most, looked_at) in [(1, 1), (3, 3), (0, 200)] {
        let security = Security { password_attempts: most, ..(*security(Some(&users), None)).clone() };
        let mut door = authority(&Rc::new(security));
        let verdicts = (0..200).map(|number| {
            try_from(&mut door, Some([192, 0, 2, 1]), "c", ("ann", &format!("wrong {number}")))
        });
        assert_eq!(verdicts.filter(|verdict| *verdict == WRONG).count(), looked_at);
    }
}

#[test]
fn many_guesses_at_once_gain_no_more_than_one_after_the_other() {
    let place = Place::new("burst");
    let text = line("ann", "pencil", CHEAP);
    let (mut authority, woken) = authority(&security(Some(&place.file("passwords", &text)), None));
    let peer = Some(Peer::Internet(([192, 0, 2, 1], 50_000).into()));
    let mut connections = Slots::<ConnectionMark, ()>::default();
    for number in 0..=20 {
        let client = Client { peer, ..client(Some(connections.insert_with(|_| ())), Some("ann")) };
        let password = if number == 20 { "pencil".to_owned() } else { format!("wrong {number}") };
        let question = Question::Connect { password: Some(password.as_bytes()), now: Time::ZERO };
        assert_eq!(authority.ask(&client, question), Answer::Later);
    }
    let mut verdicts = Vec::new();
    while verdicts.len() <= 20 {
        woken.recv_timeout(Duration::from_secs(30)).unwrap();
        verdicts
            .extend(std::iter::from_fn(|| authority.next_decision(Time::ZERO)).map(|(_, verdict)| verdict));
    }
    let expected = (0..=20).map(|number| if number < 10 { WRONG } else { LIMITED });
    assert!(verdicts.into_iter().eq(expected), "the right one among them, too");
    let again = Client { peer, ..client(Some(connection()), Some("ann")) };
    let question = Question::Connect { password: Some(b"pencil"), now: Time::ZERO };
    assert_eq!(authority.ask(&again, question), Answer::Now(LIMITED), "nor is it remembered");
}

/// A hash that takes far longer than all the rest of a test.
const SLOW: Kind = Kind::Pbkdf2 { rounds: 50_000 };

fn ask(authority: &mut Authority, address: [u8; 4], id: ConnectionId, password: &str) -> Answer {
    let peer = Some(Peer::Internet((address, 50_000).into()));
    let client = Client { peer, ..client(Some(id), Some("ann")) };
    authority.ask(&client, Question::Connect { password: Some(password.as_bytes()), now: Time::ZERO })
}

fn decisions(authority: &mut Authority, woken: &Receiver<()>, count: usize) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    while verdicts.len() < count {
        verdicts
            .extend(std::iter::from_fn(|| authority.next_decision(Time::ZERO)).map(|(_, verdict)| verdict));
        if verdicts.len() < count {
            woken.recv_timeout(Duration::from_secs(60)).unwrap();
        }
    }
    verdicts
}

#[test]
fn a_fleet_costs_one_hash_and_none_when_it_returns() {
    let place = Place::new("fleet-hash");
    let users = place.file("passwords", &line("ann", "pencil", SLOW));
    let (mut authority, woken) = authority(&security(Some(&users), None));
    let mut connections = Slots::<ConnectionMark, ()>::default();
    for _ in 0..1_000 {
        let id = connections.insert_with(|_| ());
        assert_eq!(ask(&mut authority, [192, 0, 2, 1], id, "pencil"), Answer::Later);
    }
    let verdicts = decisions(&mut authority, &woken, 1_000);
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Granted));
    assert_eq!(woken.try_iter().count(), 0, "the thread has spoken once");
    for number in 0..1_000_u32 {
        let [.., high, low] = number.to_be_bytes();
        assert_eq!(ask(&mut authority, [198, 18, high, low], connection(), "pencil"), GRANTED);
    }
}

#[test]
fn passwords_of_clients_that_have_left_are_not_hashed() {
    let place = Place::new("left");
    let users = place.file("passwords", &line("ann", "pencil", SLOW));
    let unlimited = Security { password_attempts: 0, ..(*security(Some(&users), None)).clone() };
    let (mut authority, woken) = authority(&Rc::new(unlimited));
    let mut connections = Slots::<ConnectionMark, ()>::default();
    let before = memory::held();
    for number in 0..200 {
        let id = connections.insert_with(|_| ());
        let answer = ask(&mut authority, [192, 0, 2, 1], id, &format!("wrong {number}"));
        assert_eq!(answer, Answer::Later, "{number}");
        authority.forget(id);
    }
    let last = connections.insert_with(|_| ());
    assert_eq!(ask(&mut authority, [192, 0, 2, 1], last, "pencil"), Answer::Later);
    assert!(memory::held() - before < 10_000, "they take no memory either");
    assert_eq!(decisions(&mut authority, &woken, 1), [Verdict::Granted]);
    assert_eq!(woken.try_iter().count(), 0);
    assert_eq!(authority.next_decision(Time::ZERO), None, "a client that has left is told nothing");
}

/// A password that is being hashed during a reload was asked about under the former files.
#[test]
fn an_answer_by_the_former_file_is_not_given_after_a_reload() {
    let place = Place::new("former");
    let users = place.file("passwords", &line("ann", "pencil", SLOW));
    let (mut former, woken) = authority(&security(Some(&users), None));
    let id = connection();
    assert_eq!(ask(&mut former, [192, 0, 2, 1], id, "pencil"), Answer::Later);
    place.file("passwords", &line("ann", "eraser", SLOW));
    let (mut authority, _) = guarded_by(&former.attempts.clone(), &security(Some(&users), None));
    assert_eq!(ask(&mut authority, [192, 0, 2, 1], id, "pencil"), Answer::Later);
    assert_eq!(decisions(&mut authority, &woken, 1), [WRONG]);
    assert_eq!(authority.next_decision(Time::ZERO), None);
}

#[test]
fn a_client_without_room_in_the_queue_is_told_that_the_server_is_busy() {
    let place = Place::new("busy");
    let users = place.file("passwords", &line("ann", "pencil", SLOW));
    let unlimited = Security { password_attempts: 0, ..(*security(Some(&users), None)).clone() };
    let (mut authority, _woken) = authority(&Rc::new(unlimited));
    let mut connections = Slots::<ConnectionMark, ()>::default();
    let (mut taken, before) = (0, memory::held());
    while taken < 5_000 {
        let id = connections.insert_with(|_| ());
        match ask(&mut authority, [192, 0, 2, 1], id, &format!("{taken}{}", "x".repeat(2_000))) {
            Answer::Later => taken += 1,
            answer => {
                assert_eq!(answer, Answer::Now(BUSY));
                break;
            }
        }
    }
    assert!((100..600).contains(&taken), "a MiB, but not {taken}");
    assert!(memory::held() - before <= 1_300_000);
    let victim = connections.insert_with(|_| ());
    assert_eq!(ask(&mut authority, [192, 0, 2, 2], victim, "pencil"), Answer::Later, "others have a share");
    let made_way = std::iter::from_fn(|| authority.next_decision(Time::ZERO));
    assert!(made_way.take(1).all(|(_, verdict)| verdict == BUSY));
}

/// Runs one exchange and returns its outcome.
fn by_scram(authority: &mut Authority, peer: Peer, user: &str, password: &str) -> Progress {
    let client = Client { peer: Some(peer), ..client(Some(connection()), None) };
    let mut exchange = authority.begin(&client, "SCRAM-SHA-256").unwrap();
    let first = format!("n={user},r=abc");
    let text = match exchange.go_on(format!("n,,{first}").as_bytes(), Time::ZERO) {
        Progress::Challenge(text) => text,
        progress => return progress,
    };
    let text = String::from_utf8(text).unwrap();
    exchange.go_on(scram::answer(&first, &text, password).as_bytes(), Time::ZERO)
}

#[test]
fn the_log_says_why_scram_fails_and_the_client_cannot_tell() {
    let place = Place::new("scram-why");
    let users = line("ann", "pencil", Kind::Scram { rounds: 2 }) + &line("bob", "eraser", CHEAP);
    let (mut authority, _) = authority(&security(Some(&place.file("kept", &users)), None));
    let mut seen = Vec::new();
    for (user, expected) in [
        ("ann", "wrong password"),
        ("bob", "the password of this user is not stored for SCRAM-SHA-256"),
        ("eve", "no such user"),
    ] {
        let mut exchange = authority.begin(&client(None, None), "SCRAM-SHA-256").unwrap();
        let first = format!("n={user},r=abc");
        let Progress::Challenge(text) = exchange.go_on(format!("n,,{first}").as_bytes(), Time::ZERO) else {
            panic!("{user} is not challenged");
        };
        assert_eq!(exchange.why_failed(), None);
        let answer = scram::answer(&first, &String::from_utf8(text).unwrap(), "wrong");
        seen.push(exchange.go_on(answer.as_bytes(), Time::ZERO));
        assert_eq!(exchange.why_failed().as_deref(), Some(expected));
    }
    assert!(seen.iter().all(|progress| *progress == seen[0]), "{seen:?}");
}

#[test]
fn guesses_by_scram_count_as_well() {
    let place = Place::new("scram-guess");
    let users = place.file("kept", &line("ann", "pencil", Kind::Scram { rounds: 2 }));
    let (mut authority, woken) = authority(&security(Some(&users), None));
    let peer = Peer::Internet(([192, 0, 2, 1], 50_000).into());
    assert!(matches!(by_scram(&mut authority, peer, "ann", "pencil"), Progress::Passed { .. }));
    for _ in 0..10 {
        let progress = by_scram(&mut authority, peer, "ann", "wrong");
        assert!(matches!(progress, Progress::Failed(ReasonCode::NotAuthorized, _)), "{progress:?}");
    }
    // From ann's device, which was accepted before, ann is accepted, and no other user is.
    assert!(matches!(by_scram(&mut authority, peer, "ann", "pencil"), Progress::Passed { .. }));
    let limited = |progress| matches!(progress, Progress::Failed(ReasonCode::ConnectionRateExceeded, _));
    assert!(limited(by_scram(&mut authority, peer, "ann", "eraser")));
    for number in 0..100 {
        by_scram(&mut authority, peer, &format!("user {number}"), "wrong");
    }
    assert!(limited(by_scram(&mut authority, peer, "eve", "pencil")));
    let question = Question::Connect { password: Some(b"pencil"), now: Time::ZERO };
    let here = Client { peer: Some(peer), client_identifier: "d", ..client(Some(connection()), Some("ann")) };
    assert_eq!(authority.ask(&here, question), refused(ReasonCode::ConnectionRateExceeded));
    assert!(matches!(by_scram(&mut authority, Peer::Local, "ann", "pencil"), Progress::Passed { .. }));
    assert_eq!(decided(&mut authority, &woken, "ann", "pencil"), Verdict::Granted);
}

#[test]
fn a_reload_does_not_reveal_which_users_exist() {
    let place = Place::new("decoys");
    let text =
        line("ann", "pencil", Kind::Scram { rounds: 2 }) + &line("bob", "ink", Kind::Scram { rounds: 3 });
    let users = place.file("kept", &text);
    let attempts = Attempts::new([1; 32]);
    let challenges = || -> Vec<String> {
        let (mut authority, _) = guarded_by(&attempts, &security(Some(&users), None));
        let mut challenge = |user: String| {
            let mut exchange = authority.begin(&client(None, None), "SCRAM-SHA-256").unwrap();
            let Progress::Challenge(text) =
                exchange.go_on(format!("n,,n={user},r=abc").as_bytes(), Time::ZERO)
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
fn a_user_that_is_gone_or_has_another_password_may_not_stay() {
    let place = Place::new("stay");
    let old = line("ann", "pencil", CHEAP) + &line("bob", "eraser", CHEAP) + &line("cay", "ink", CHEAP);
    let new = line("ann", "pencil", CHEAP) + &line("bob", "rubber", CHEAP);
    let security = security(Some(&place.file("passwords", &old)), None);
    let former = Policies::load(&here(&security)).unwrap();
    place.file("passwords", &new);
    let mut policies = Policies::load(&here(&security)).unwrap();
    policies.follow(&former);
    let mut authority = Authority::new(Rc::new(policies), Attempts::new([1; 32]), || ()).unwrap();
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
    assert!(without.begin(&client(None, None), "SCRAM-SHA-256").is_none());
    let users = place.file("kept", &line("ann", "pencil", Kind::Scram { rounds: 2 }));
    let (mut with, _) = authority(&security(Some(&users), None));
    assert!(with.begin(&client(None, None), "SCRAM-SHA-1").is_none());
    assert!(with.begin(&Client { listener: ListenerId(1), ..client(None, None) }, "SCRAM-SHA-256").is_none());
    let mut salts = Vec::new();
    for user in ["ann", "eve", "eve"] {
        let mut exchange = with.begin(&client(None, None), "SCRAM-SHA-256").unwrap();
        assert_eq!(exchange.go_on(b"", Time::ZERO), Progress::Challenge(Vec::new()));
        let Progress::Challenge(text) = exchange.go_on(format!("n,,n={user},r=abc").as_bytes(), Time::ZERO)
        else {
            panic!("{user} is not challenged");
        };
        let text = String::from_utf8(text).unwrap();
        let salt = text.split(",s=").nth(1).unwrap().to_owned();
        assert!(salt.ends_with(",i=2"), "{text}");
        salts.push(salt);
        let last = format!("c=biws,{},p={}", text.split(',').next().unwrap(), "A".repeat(43) + "=");
        assert!(matches!(
            exchange.go_on(last.as_bytes(), Time::ZERO),
            Progress::Failed(ReasonCode::NotAuthorized, _)
        ));
    }
    assert_eq!(salts[1], salts[2]);
    assert_ne!(salts[0], salts[1]);
    assert_eq!(salts[0].len(), salts[1].len());
}

#[test]
fn passwords_that_every_user_of_the_machine_can_read_are_pointed_out() {
    let place = Place::new("mode");
    let passwords = place.file("passwords", &line("ann", "pencil", CHEAP));
    let security = here(&security(Some(&passwords), None));
    assert_eq!(Policies::load(&security).unwrap().warnings().count(), 0);
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o644)).unwrap();
    let policies = Policies::load(&security).unwrap();
    let warnings: Vec<String> = policies.warnings().map(ToString::to_string).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("mode 0644"), "{warnings:?}");
}
