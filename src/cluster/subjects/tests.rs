//! Subjects against a naive matcher of MQTT and a naive one of NATS.

use proptest::prelude::*;

use super::*;
use crate::protocol::codec::PacketIdentifier;
use crate::settings::NodeName;

const PURPOSES: [Purpose; 5] =
    [Purpose::Direct, Purpose::Log(0), Purpose::Log(u16::MAX), Purpose::Retained(0), Purpose::Retained(10)];

/// What a command to the engine has at most beside a subject: its name, another subject for answers, a number.
const COMMAND_LENGTH: usize = 4096;

fn subjects() -> Subjects {
    Subjects::new(&ClusterName::new(&"c".repeat(ClusterName::LENGTH_MAXIMUM)).expect("a name"))
}

/// Whether a Topic Filter matches a Topic Name, by the rules in chapter 4.7 of the standard.
fn is_match_of_mqtt(filter: &[&str], topic: &[&str], is_first: bool) -> bool {
    let is_hidden = is_first && topic.first().is_some_and(|level| level.starts_with('$'));
    match (filter, topic) {
        (["#"], _) => !is_hidden,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => !is_hidden && is_match_of_mqtt(filter, topic, false),
        ([wanted, filter @ ..], [level, topic @ ..]) => {
            wanted == level && is_match_of_mqtt(filter, topic, false)
        }
        _ => false,
    }
}

fn matches_in_mqtt(filter: &str, topic: &str) -> bool {
    is_match_of_mqtt(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>(), true)
}

/// Whether a subscription of NATS gets messages of a subject.
fn is_match_of_nats(subscription: &[&str], subject: &[&str]) -> bool {
    match (subscription, subject) {
        ([">"], [_, ..]) | ([], []) => true,
        (["*", subscription @ ..], [_, subject @ ..]) => is_match_of_nats(subscription, subject),
        ([wanted, subscription @ ..], [token, subject @ ..]) => {
            wanted == token && is_match_of_nats(subscription, subject)
        }
        _ => false,
    }
}

fn matches_in_nats(subscription: &str, subject: &str) -> bool {
    is_match_of_nats(&subscription.split('.').collect::<Vec<_>>(), &subject.split('.').collect::<Vec<_>>())
}

/// Whether the engine takes a subject, and does not take a token for a wildcard if it is that of a message.
fn is_subject(subject: &str, may_have_wildcards: bool) -> bool {
    let tokens: Vec<_> = subject.split('.').collect();
    let last = tokens.len() - 1;
    let is_token = |(index, token): (usize, &&str)| match *token {
        "" => false,
        "*" => may_have_wildcards,
        ">" => may_have_wildcards && index == last,
        token => !token.bytes().any(|byte| byte <= b' ' || byte == 0x7F),
    };
    subject.len() <= SUBJECT_LENGTH_MAXIMUM
        && 3 * SUBJECT_LENGTH_MAXIMUM < COMMAND_LENGTH
        && tokens.iter().enumerate().all(is_token)
}

fn subject_of(purpose: Purpose, topic: &str) -> Option<(String, Form)> {
    let mut subject = String::new();
    let form = subjects().push_topic(purpose, TopicName::new(topic).expect("a topic"), &mut subject)?;
    Some((subject, form))
}

fn subscriptions_of(filter: &str) -> FilterSubjects {
    subjects().filter(Purpose::Direct, TopicFilter::new(filter).expect("a filter"))
}

/// A level that means something to MQTT, to NATS or to the escapes, or any short text, or one that is too long.
fn level() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "",
        "a",
        "b",
        "$",
        "$SYS",
        "$x",
        "*",
        ">",
        "%",
        "%_",
        "%h",
        "%2E",
        "%25",
        ".",
        "..",
        " ",
        "a b",
        "é",
        "\u{FEFF}",
        "*a",
        "d",
        "+a",
        "d$",
        "\u{10FFFD}",
        "1.5 V",
        "$share",
    ]);
    prop_oneof![
        24 => special.prop_map(|level| level.replace('+', "")),
        6 => "[a-b.%*>$_ é]{0,4}",
        2 => (1_usize..1000).prop_map(|length| "x".repeat(length)),
        2 => (300_usize..400).prop_map(|length| ".".repeat(length)),
        1 => Just("é".repeat(16_000)),
    ]
}

/// A valid Topic Name.
fn topic() -> impl Strategy<Value = String> {
    let few = prop::collection::vec(level(), 1..5);
    let many = (level(), 55_usize..75).prop_map(|(level, count)| vec![level; count]);
    prop_oneof![8 => few, 1 => many]
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not a topic", |topic| TopicName::new(topic).is_ok())
}

/// A valid Topic Name, and a filter made of it by putting wildcards in the place of levels, or of another topic.
fn topic_and_filter() -> impl Strategy<Value = (String, String)> {
    let change = prop::collection::vec(0_u8..4, 1..76);
    (topic(), prop::option::weighted(0.2, topic()), change, 0_usize..9)
        .prop_map(|(topic, other, change, cut)| {
            let other = other.as_ref().unwrap_or(&topic);
            let mut levels: Vec<&str> = other.split('/').collect();
            for (level, _) in levels.iter_mut().zip(&change).filter(|(_, change)| **change == 0) {
                *level = "+";
            }
            if cut < 6 {
                levels.truncate(cut);
                levels.push("#");
            }
            (topic.clone(), levels.join("/"))
        })
        .prop_filter("a Shared Subscription", |(_, filter)| {
            TopicFilter::new(filter).is_ok_and(|filter| filter.share_name().is_none())
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_subject_is_one_that_the_engine_takes_and_tells_its_topic(
        topic in topic(), purpose in prop::sample::select(PURPOSES.to_vec()),
    ) {
        let Some((subject, form)) = subject_of(purpose, &topic) else {
            prop_assert!(topic == "$SYS" || topic.starts_with("$SYS/"), "{topic}");
            return Ok(());
        };
        prop_assert!(is_subject(&subject, false), "{subject}");
        let mut read = String::new();
        prop_assert_eq!(subjects().parse(&subject, &mut read), Ok(Parsed { purpose, form }));
        prop_assert_eq!(read, if form == Form::Whole { topic } else { String::new() });
    }

    #[test]
    fn different_topics_have_different_subjects(one in topic(), other in topic()) {
        let subject = |topic| subject_of(Purpose::Direct, topic).map(|(subject, _)| subject);
        if one != other && !one.starts_with("$SYS") {
            prop_assert_ne!(subject(&one), subject(&other));
        }
    }

    #[test]
    fn subscriptions_reach_what_the_filter_matches((topic, filter) in topic_and_filter()) {
        let subscriptions = subscriptions_of(&filter);
        let both = [&subscriptions.whole, &subscriptions.shortened];
        prop_assert!(both.into_iter().flatten().all(|subject| is_subject(subject, true)), "{both:?}");
        let Some((subject, form)) = subject_of(Purpose::Direct, &topic) else { return Ok(()) };
        let found = both.into_iter().flatten().filter(|wanted| matches_in_nats(wanted, &subject)).count();
        let is_match = matches_in_mqtt(&filter, &topic);
        match form {
            Form::Whole => prop_assert_eq!(found, usize::from(is_match), "{} {}", filter, subject),
            Form::Shortened => prop_assert!(found >= usize::from(is_match), "{filter} {subject}"),
        }
        prop_assert!(found < 2, "a message comes once");
    }

    #[test]
    fn what_is_read_is_what_would_be_written(
        text in "(d|d\\$|dh|m1.t|m01.t|m1.r\\$)(\\.([ab$%]|%_|%2E|%2e|%41|%|>|\\*|\\$SYS|\\.){1,3}){0,3}(\\.%)?",
    ) {
        let subject = format!("{}{text}", subjects().base());
        let mut topic = String::new();
        if let Ok(Parsed { purpose, form: Form::Whole }) = subjects().parse(&subject, &mut topic) {
            prop_assert_eq!(subject_of(purpose, &topic), Some((subject, Form::Whole)));
        }
    }

    #[test]
    fn any_text_is_read(text in "\\PC{0,40}") {
        let mut topic = String::new();
        let subject = format!("{}d{text}", subjects().base());
        let found = subjects().parse(&subject, &mut topic);
        prop_assert!(found.is_err() || subject.ends_with(".%"), "{}", subject);
        prop_assert_eq!(subjects().parse(&text, &mut topic), Err(SubjectError::Foreign));
    }
}

#[test]
fn the_table_of_the_page_holds() {
    let subjects = Subjects::new(&ClusterName::new("c").expect("a name"));
    for (topic, expected) in [
        ("a/b", "bk.c.d.a.b.%"),
        ("a//1.5 V", "bk.c.d.a.%_.1%2E5%20V.%"),
        ("$x/a", "bk.c.d$.$x.a.%"),
        ("%_/*/>/%h/é", "bk.c.d.%25_.%2A.%3E.%25h.é.%"),
        ("/", "bk.c.d.%_.%_.%"),
        ("$SYSTEM", "bk.c.d$.$SYSTEM.%"),
    ] {
        let mut subject = String::new();
        subjects.push_topic(Purpose::Direct, TopicName::new(topic).unwrap(), &mut subject);
        assert_eq!(subject, expected);
    }
    for (filter, whole, shortened) in [
        ("a/+", "bk.c.d.a.*.%", "bk.c.dh.a.>"),
        ("a/#", "bk.c.d.a.>", "bk.c.dh.a.>"),
        ("#", "bk.c.d.>", "bk.c.dh.>"),
        ("/#", "bk.c.d.%_.>", "bk.c.dh.%_.>"),
        ("+/b/#", "bk.c.d.*.b.>", "bk.c.dh.>"),
        ("$x/#", "bk.c.d$.$x.>", "bk.c.dh.$x.>"),
        ("$share/group/a/+", "bk.c.d.a.*.%", "bk.c.dh.a.>"),
    ] {
        let found = subjects.filter(Purpose::Direct, TopicFilter::new(filter).unwrap());
        assert_eq!(found, FilterSubjects { whole: Some(whole.into()), shortened: Some(shortened.into()) });
    }
    let log = |purpose| {
        let mut subject = String::new();
        subjects.push_topic(purpose, TopicName::new("$x/a").unwrap(), &mut subject);
        subject
    };
    assert_eq!(log(Purpose::Log(3)), "bk.c.m3.t$.$x.a.%");
    assert_eq!(log(Purpose::Retained(0)), "bk.c.m0.r.$.$x.a.%");
}

#[test]
fn what_a_broker_says_about_itself_has_no_subject() {
    for topic in ["$SYS", "$SYS/broker/uptime", "$SYS/broker/connection/a/state"] {
        assert_eq!(subject_of(Purpose::Direct, topic), None);
        assert_eq!(subscriptions_of(topic), FilterSubjects::default());
    }
    for filter in ["$SYS/#", "$SYS/+/a"] {
        assert_eq!(subscriptions_of(filter), FilterSubjects::default());
    }
}

#[test]
fn a_topic_is_cut_off_where_it_no_longer_fits() {
    let at_most = |levels: usize| vec!["a"; levels].join("/");
    let form = |topic: &str| subject_of(Purpose::Direct, topic).expect("it has a subject").1;
    assert_eq!((form(&at_most(64)), form(&at_most(65))), (Form::Whole, Form::Shortened));
    let long = |length: usize| format!("a/{}", "x".repeat(length));
    assert_eq!((form(&long(957)), form(&long(958))), (Form::Whole, Form::Shortened));
    assert_eq!(form(&format!("a/{}", ".".repeat(320))), Form::Shortened);

    let (one, _) = subject_of(Purpose::Direct, &format!("a/b/{}", "x".repeat(65_531))).expect("it has one");
    let (other, _) =
        subject_of(Purpose::Direct, &format!("a/b/{}y", "x".repeat(65_530))).expect("it has one");
    assert_ne!(one, other);
    assert!(one.contains(".dh.a.b.") && one.len() < 100, "{one}");
    assert!(matches_in_nats(&subscriptions_of("a/+/#").shortened.expect("for long topics"), &one));
    // No topic that fits has so many levels.
    let filter = format!("{}/+/#", at_most(64));
    assert_eq!(subscriptions_of(&filter).whole, None);
}

#[test]
fn a_filter_without_wildcards_is_one_subscription() {
    let whole = subscriptions_of("a/b");
    assert_eq!((whole.whole.is_some(), whole.shortened), (true, None));
    let long = "x".repeat(2000);
    let shortened = subscriptions_of(&long);
    assert_eq!(shortened.shortened, subject_of(Purpose::Direct, &long).map(|(subject, _)| subject));
    assert_eq!(shortened.whole, None);
}

#[test]
fn subjects_that_no_node_writes_are_refused() {
    let long = format!("d.{}%", "a.".repeat(65));
    for (rest, why) in [
        ("x.a.%", SubjectError::Foreign),
        ("d", SubjectError::Foreign),
        ("m.t.a.%", SubjectError::Foreign),
        ("m+1.t.a.%", SubjectError::Foreign),
        ("m65536.t.a.%", SubjectError::Foreign),
        ("m1.x.a.%", SubjectError::Foreign),
        ("dx.a.%", SubjectError::Foreign),
        ("d.%", SubjectError::Token),
        ("d.a", SubjectError::Token),
        ("d.a.b%", SubjectError::Token),
        ("d..a.%", SubjectError::Token),
        ("d.a b.%", SubjectError::Token),
        ("d.*.%", SubjectError::Token),
        ("d.%2e.%", SubjectError::Token),
        ("d.%2.%", SubjectError::Token),
        ("d.%2é.%", SubjectError::Token),
        ("d.%41.%", SubjectError::Token),
        ("d.a+.%", SubjectError::Topic(TopicError::WildcardInName)),
        ("d.%00.%", SubjectError::Topic(TopicError::Character)),
        ("d.%_.%", SubjectError::Topic(TopicError::Empty)),
        ("d.a/b.%", SubjectError::Token),
        ("d.$x.%", SubjectError::Branch),
        ("d$.x.%", SubjectError::Branch),
        ("d$.$SYS.a.%", SubjectError::Branch),
        (&long, SubjectError::TooLong),
    ] {
        let found = subjects().parse(&format!("{}{rest}", subjects().base()), &mut String::new());
        assert_eq!(found, Err(why), "{rest}");
    }
    assert_eq!(subjects().parse("bk.other.d.a.%", &mut String::new()), Err(SubjectError::Foreign));
}

#[test]
fn keys_are_different_subjects_within_the_limits() {
    let subjects = subjects();
    let [one, other] = ["client", "clienT"].map(|client| subjects.session(client));
    let filter = TopicFilter::new("$share/g/a").unwrap();
    let first = PacketIdentifier::FIRST;
    let node = NodeName::new(&".".repeat(NodeName::LENGTH_MAXIMUM)).expect("a name");
    let keys = |session: &SessionKeys| {
        [
            session.record(),
            session.positions(),
            session.subscription(filter),
            session.subscription(TopicFilter::trusted_pattern("a")),
            session.incoming(first),
            session.outgoing(first),
        ]
    };
    let mut all: Vec<String> = keys(&one).into_iter().chain(keys(&other)).collect();
    assert!(keys(&one).iter().all(|key| matches_in_nats(&one.all(), key)));
    assert!(keys(&other).iter().all(|key| !matches_in_nats(&one.all(), key)));
    all.extend([subjects.lease(&node), subjects.yielding(&node)]);
    assert!(all.iter().all(|key| is_subject(key, false)), "{all:?}");
    let different: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}
