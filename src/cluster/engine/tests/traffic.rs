//! Messages, requests and their limits.

use super::rig::{Rig, settings};
use super::*;

#[test]
fn subscriptions_are_made_again_on_the_next_connection() {
    let mut rig = Rig::new(settings());
    let early = rig.subscribe("a.>").unwrap();
    let group = rig.machine.subscribe(SubjectPattern::new("b").unwrap(), Some("q")).unwrap();
    rig.become_ready();
    let closed = rig.subscribe("c").unwrap();
    assert_eq!(rig.sent(), "SUB c 4\r\n");
    assert_eq!(rig.subscribe("d"), Err(NotSent::Full));
    rig.machine.unsubscribe(closed);
    rig.machine.unsubscribe(closed);
    assert_eq!(rig.sent(), "UNSUB 4\r\n");
    assert_eq!(
        rig.receive("MSG a.x 2 1\r\n1\r\nMSG b 3 1\r\n2\r\nMSG c 4 1\r\n3\r\nMSG c 9 1\r\n4\r\n"),
        ["2 a.x 1", "3 b 2"]
    );
    rig.machine.closed("reset", rig.now);
    rig.machine.unsubscribe(early);
    rig.pass(200);
    rig.actions();
    rig.machine.connected(rig.now);
    rig.receive(&format!("{}\r\n", super::rig::INFO));
    rig.sent();
    rig.receive("PONG\r\n");
    let inbox = rig.machine.inbox().to_owned();
    assert_eq!(rig.sent(), format!("SUB {inbox}* 1\r\nSUB b q 3\r\n"));
    assert_eq!(group, SubscriptionId(3));
}

#[test]
fn answers_reach_their_requests() {
    let mut rig = Rig::ready();
    let inbox = rig.machine.inbox().to_owned();
    let one = rig.request(Answers::One).unwrap();
    let many = rig.request(Answers::Many).unwrap();
    assert_eq!(rig.sent(), format!("PUB q {inbox}1 1\r\n?\r\nPUB q {inbox}2 1\r\n?\r\n"));
    let answer = |token: u64| format!("MSG {inbox}{token} 1 1\r\n!\r\n");
    let all = [answer(1), answer(1), answer(2), answer(2), answer(3)].concat();
    assert_eq!(rig.receive(&all), ["answer 1 !", "answer 2 !", "answer 2 !"]);
    rig.machine.end_request(many);
    assert_eq!(rig.receive(&(answer(2) + "MSG other 1 0\r\n\r\n")), [""; 0]);
    assert_eq!((one.token(), rig.notices()), (1, vec![]));
}

#[test]
fn requests_without_an_answer_end() {
    let mut rig = Rig::ready();
    let inbox = rig.machine.inbox().to_owned();
    let unheard = rig.request(Answers::One).unwrap();
    let late = rig.request(Answers::Many).unwrap();
    let none = "NATS/1.0 503\r\n\r\n";
    assert_eq!(rig.receive(&format!("HMSG {inbox}1 1 16 16\r\n{none}\r\n")), [""; 0]);
    rig.pass(500);
    let expected = [
        Notice::Unanswered(unheard, Unanswered::NoResponders),
        Notice::Unanswered(late, Unanswered::TimedOut),
    ];
    assert_eq!(rig.notices(), expected);
    let all: Vec<RequestId> = (0..3).map(|_| rig.request(Answers::One).unwrap()).collect();
    assert_eq!(rig.request(Answers::One), Err(NotSent::Full));
    rig.machine.closed("reset", rig.now);
    let lost = all.into_iter().map(|request| Notice::Unanswered(request, Unanswered::Lost));
    assert_eq!(rig.notices(), lost.chain([Notice::Lost("reset".into())]).collect::<Vec<_>>());
    assert_eq!((rig.request(Answers::One), rig.machine.requests.len()), (Err(NotSent::NotReady), 0));
}

#[test]
fn a_full_output_refuses_and_keeps_what_it_has() {
    let mut rig = Rig::ready();
    let count = (0..100).take_while(|_| rig.publish("a", &[b'x'; 500]).is_ok()).count();
    assert_eq!(count, 8, "until 4,000 bytes wait");
    assert_eq!((rig.publish("a", b""), rig.machine.has_room()), (Err(NotSent::Full), false));
    rig.receive("PING\r\n");
    let sent = rig.sent();
    assert!(sent.ends_with("x\r\nPONG\r\n"));
    assert_eq!(rig.publish("a", b""), Ok(()));
}

#[test]
fn a_server_that_only_asks_does_not_fill_the_memory() {
    let mut rig = Rig::ready();
    for _ in 0..100 {
        rig.receive(&"PING\r\n".repeat(100));
        let subscription = rig.subscribe("a");
        subscription.into_iter().for_each(|subscription| rig.machine.unsubscribe(subscription));
    }
    assert!((8_000..8_100).contains(&rig.machine.output().len()), "{}", rig.machine.output().len());
    assert_eq!(rig.subscribe("a"), Err(NotSent::Full));
}

#[test]
fn what_the_server_would_refuse_is_not_sent() {
    let mut rig = Rig::ready();
    assert!(matches!(rig.publish("a", &[0; 1_001]), Err(NotSent::Invalid(_))), "the server accepts 1,000");
    let subject = "a".repeat(5_000);
    let subject = Subject::new(&subject).unwrap();
    let request = rig.machine.request(subject, None, &[], (Answers::One, Duration::ZERO), rig.now);
    assert!(matches!(request, Err(NotSent::Invalid(_))) && rig.machine.requests.len() == 0);
    assert!(rig.machine.subscribe(subject.into(), None).is_err() && rig.machine.subscriptions.is_empty());
    assert!(rig.machine.subscribe(SubjectPattern::new("a").unwrap(), Some("a b")).is_err());
    assert_eq!(rig.sent(), "");
}

#[test]
fn a_message_that_is_too_large_is_skipped() {
    let mut rig = Rig::ready();
    rig.subscribe("a").unwrap();
    assert_eq!(rig.receive("MSG a 2 2001\r\nxx"), ["2 too large"]);
    assert_eq!(rig.receive(&("x".repeat(1_999) + "\r")), [""; 0]);
    assert_eq!(rig.receive("\nMSG a 2 1\r\ny\r\nMSG b 9 3000\r\n"), ["2 a y"]);
    assert_eq!(rig.receive(&("x".repeat(3_000) + "\r\nMSG a 2 1\r\nz\r\n")), ["2 a z"]);
    assert!(rig.machine.is_ready());
}

#[test]
fn a_refused_subject_is_reported_and_the_connection_goes_on() {
    let mut rig = Rig::ready();
    let words = "Permissions Violation for Publish to \"a\"";
    for _ in 0..1_000 {
        rig.receive(&format!("-ERR '{words}'\r\n"));
    }
    assert!(rig.machine.is_ready());
    let notices = rig.notices();
    assert_eq!((notices.len(), &notices[0]), (256, &Notice::Refused(words.into())));
    rig.receive("-ERR 'Slow Consumer'\r\n");
    assert!(!rig.machine.is_ready());
    assert_eq!(rig.notices(), [Notice::Lost("the server says 'Slow Consumer'".into())]);
}
