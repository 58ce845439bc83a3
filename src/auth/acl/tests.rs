//! Rules compared with mosquitto's order of evaluation, and with a model that knows no levels.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Acl {
    Acl::parse("file", text.as_bytes()).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

#[test]
fn a_byte_order_mark_is_skipped_only_at_the_start_of_the_file() {
    for text in ["\u{feff}topic read a\n", "\u{feff}# a comment\ntopic read a\n"] {
        let acl = parse(text);
        let warnings: Vec<String> = acl.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["file:1:1: a byte order mark, which mosquitto would not skip, is skipped"]);
        assert_eq!(rights(&acl, "c", "", "a"), "r");
    }
    let wrong = Acl::parse("file", "topic read a\n\u{feff}# a comment".as_bytes()).unwrap_err();
    assert_eq!(wrong[0].to_string(), "file:2:1: a byte order mark inside the file, expected none");
}

fn subject<'a>(client_identifier: &'a str, user: &'a str) -> Subject<'a> {
    Subject { client_identifier, user_name: (!user.is_empty()).then_some(user) }
}

/// The allowed accesses to a topic, as letters.
fn rights(acl: &Acl, client: &str, user: &str, topic: &str) -> &'static str {
    let topic = TopicName::new(topic).unwrap();
    let may = |access| matches!(acl.decide(&subject(client, user), access, topic), Ruling::Allowed { .. });
    match (may(Access::Read), may(Access::Write)) {
        (true, true) => "rw",
        (true, false) => "r",
        (false, true) => "w",
        (false, false) => "",
    }
}

fn filter_ruling(acl: &Acl, user: &str, filter: &str) -> Ruling {
    acl.decide_filter(&subject("c", user), TopicFilter::new(filter).unwrap())
}

#[test]
fn rules_apply_to_the_user_of_their_section() {
    let acl = parse(
        "# comment\ntopic read open/#\n\nuser alice b\ntopic write a/w\ntopic a/rw \ntopic readwrite with space\n\
         user bob\r\ntopic read b/#\r\nuser alice b\n\ttopic\tdeny\ta/w/x\n",
    );
    for (user, topic, expected) in [
        ("", "open/x", "r"),
        ("", "open", "r"),
        ("", "a/w", ""),
        ("alice b", "a/w", "w"),
        ("alice b", "a/rw", "rw"),
        ("alice b", "with space", "rw"),
        ("alice b", "open/x", ""),
        ("bob", "b/1/2", "r"),
        ("bob", "a/w", ""),
        ("carol", "open/x", ""),
    ] {
        assert_eq!(rights(&acl, "c", user, topic), expected, "{user} {topic}");
    }
}

#[test]
fn denials_come_first_and_the_last_of_them_first_of_all() {
    let acl = parse("user u\ntopic a/#\ntopic deny a/b/#\ntopic deny a/b/c\ntopic read a/b/d\n");
    let topic = TopicName::new("a/b/c").unwrap();
    assert_eq!(acl.decide(&subject("c", "u"), Access::Read, topic), Ruling::Denied { line: Some(4) });
    assert_eq!(rights(&acl, "c", "u", "a/b/d"), "");
    assert_eq!(rights(&acl, "c", "u", "a/c"), "rw");
}

#[test]
fn own_rules_come_before_patterns() {
    let acl = parse("user u\ntopic read p/u\npattern deny p/%u\npattern write p/+\n");
    assert_eq!(rights(&acl, "c", "u", "p/u"), "r", "reading is allowed before the pattern is asked");
    assert_eq!(rights(&acl, "c", "u", "p/x"), "w");
    assert_eq!(rights(&acl, "c", "", "p/x"), "w", "a pattern without %u is for anonymous clients too");
    assert_eq!(rights(&acl, "c", "v", "p/v"), "");
}

#[test]
fn names_never_widen_a_pattern() {
    let acl = parse(
        "pattern readwrite c/%c/#\npattern readwrite u/%u\npattern readwrite %c/x\npattern read t/a%c\n",
    );
    assert_eq!(rights(&acl, "me", "", "c/me/1"), "rw");
    assert_eq!(rights(&acl, "me", "you", "u/you"), "rw");
    assert_eq!(rights(&acl, "me", "", "t/a%c"), "r");
    for (client, user, topic) in [
        ("+", "", "c/me/1"),
        ("#", "", "c/me/1"),
        ("a/b", "", "c/a/b"),
        ("c/#", "", "c/c/#".trim_end_matches("/#")),
        ("me", "+", "u/x"),
        ("me", "+", "c/me/1"),
        ("me", "a/b", "u/a/b"),
        ("me", "", "u/"),
        ("me", "", "u/me"),
        ("$SYS", "", "$SYS/x"),
        ("me", "", "t/ame"),
        ("", "", "c/me/1"),
    ] {
        assert_eq!(rights(&acl, client, user, topic), "", "{client} {user} {topic}");
    }
    assert_eq!(acl.warnings().len(), 1, "{:?}", acl.warnings());
}

#[test]
fn reserved_topics_need_a_rule_that_names_them() {
    let acl = parse("topic #\ntopic +/x\nuser s\ntopic read $SYS/#\n");
    assert_eq!(rights(&acl, "c", "", "$SYS/x"), "");
    assert_eq!(rights(&acl, "c", "", "a/x"), "rw");
    assert_eq!(rights(&acl, "c", "s", "$SYS/broker/uptime"), "r");
}

#[test]
fn a_filter_is_allowed_completely_in_part_or_not_at_all() {
    let acl = parse(
        "user u\ntopic read a/#\ntopic deny a/secret/#\nuser v\ntopic read maxqos 1 b/+\ntopic write w/#\n\
         topic read maxqos 0 e/+\ntopic read e/f\ntopic read $SYS/#\n",
    );
    let whole = |maximum, line| Ruling::Allowed { maximum, line };
    let part = |maximum| Ruling::InPart { maximum };
    for (user, filter, expected) in [
        ("u", "a/b", whole(QoS::ExactlyOnce, 2)),
        ("u", "a/b/#", whole(QoS::ExactlyOnce, 2)),
        ("u", "$share/g/a/b", whole(QoS::ExactlyOnce, 2)),
        ("u", "a/#", part(QoS::ExactlyOnce)),
        ("u", "#", part(QoS::ExactlyOnce)),
        ("u", "+/secret/x", Ruling::Denied { line: Some(3) }),
        ("u", "a/secret/#", Ruling::Denied { line: Some(3) }),
        ("u", "b", Ruling::Denied { line: None }),
        ("v", "b/x", whole(QoS::AtLeastOnce, 5)),
        ("v", "b/#", part(QoS::AtLeastOnce)),
        ("v", "b", Ruling::Denied { line: None }),
        ("v", "w/x", Ruling::Denied { line: None }),
        ("v", "e/f", whole(QoS::AtMostOnce, 7)),
        ("v", "e/#", part(QoS::ExactlyOnce)),
        ("v", "$SYS/a/#", whole(QoS::ExactlyOnce, 9)),
        ("v", "+/a", part(QoS::AtLeastOnce)),
        ("", "a", Ruling::Denied { line: None }),
    ] {
        assert_eq!(filter_ruling(&acl, user, filter), expected, "{user} {filter}");
    }
}

#[test]
fn every_fault_is_reported_with_its_position() {
    for (text, expected) in [
        ("user", "file:1:5: no name, expected user NAME"),
        ("topic", "file:1:6: no topic filter"),
        ("\ntopic  a#", "file:2:8: 'a#' is not a topic filter"),
        ("topic a b", "file:1:7: unknown access 'a', expected read, write, readwrite or deny"),
        ("topic read maxqos 3 a", "file:1:19: '3' is not a QoS"),
        ("topic read $share/g/a", "file:1:12: rules are about topics"),
        ("Topic a", "file:1:1: unknown keyword 'Topic', expected user, topic or pattern"),
        // A line of a password file, by mistake.
        ("ann:pencil", "file:1:1: unknown keyword 'ann', expected user, topic or pattern"),
        (":pencil", "file:1:1: unknown keyword, expected user, topic or pattern"),
    ] {
        let wrong = Acl::parse("file", text.as_bytes()).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].to_string().starts_with(expected), "{text}: {wrong:?}");
    }
    let wrong = Acl::parse("file", &b"x\n".repeat(1_000)).unwrap_err();
    assert_eq!((wrong.len(), wrong[100].to_string()), (101, "file: 900 more were omitted".to_owned()));
    assert_eq!(parse(&"pattern a\n".repeat(1_000)).warnings().len(), 101);
    let wrong = Acl::parse("file", b"x\ntopic \xFF\ntopic a b").unwrap_err();
    let places: Vec<&str> = wrong.iter().map(|error| error.place.as_str()).collect();
    assert_eq!(places, ["file:1:1", "file:2:7", "file:3:7"]);
}

#[test]
fn words_for_access_are_filters_at_the_end_of_a_line() {
    let acl = parse("topic read\ntopic deny\ntopic read maxqos\ntopic write maxqos 1\n");
    for (topic, expected) in [("read", "rw"), ("deny", "rw"), ("maxqos", "r"), ("maxqos 1", "w")] {
        assert_eq!(rights(&acl, "c", "", topic), expected, "{topic}");
    }
}

#[test]
fn a_ruling_names_file_and_line() {
    let acl = parse("topic read maxqos 1 a\ntopic deny b\ntopic c\n");
    let words = |topic, access| {
        let ruling = acl.decide(&subject("c", ""), access, TopicName::new(topic).unwrap());
        acl.explain(ruling).to_string()
    };
    assert_eq!(words("a", Access::Read), "allowed at QoS 1 and less by file:1");
    assert_eq!(words("a", Access::Write), "no rule of file allows it");
    assert_eq!(words("b", Access::Read), "denied by file:2");
    assert_eq!(words("c", Access::Write), "allowed by file:3");
    assert_eq!(parse("").warnings().len(), 1);
}

#[test]
fn a_pattern_that_is_not_used_for_a_name_is_the_reason() {
    let acl = parse(
        "pattern readwrite devices/%u/#\npattern write by/%c\npattern read public/#\npattern deny devices/+/key\n\
         user a/b\ntopic read own\n",
    );
    let unused = |line, name| Ruling::Unused { line, name };
    let no_rule = Ruling::Denied { line: None };
    let named = |user| (user, "c");
    for ((user, client), access, topic, expected) in [
        (named("a/b"), Access::Write, "devices/a/b/x", unused(1, Name::UserName)),
        (named("a/b"), Access::Write, "devices/a/b", unused(1, Name::UserName)),
        (named("a/b"), Access::Write, "devices/a/c/x", no_rule),
        (named("a/b"), Access::Write, "elsewhere", no_rule),
        (named("a/b"), Access::Write, "own", no_rule),
        (named("a/b"), Access::Read, "public/x", Ruling::Allowed { maximum: QoS::ExactlyOnce, line: 3 }),
        (named("a+b"), Access::Write, "devices/a+b/x", unused(1, Name::UserName)),
        (named("a#"), Access::Read, "public/x", unused(3, Name::UserName)),
        (named("a#"), Access::Write, "public/x", no_rule),
        (named("a#"), Access::Write, "devices/a/key", no_rule),
        (named("plain"), Access::Write, "devices/other/x", no_rule),
        (("u", "c/1"), Access::Write, "by/c/1", unused(2, Name::ClientIdentifier)),
        (("u", "c+"), Access::Read, "devices/u/x", unused(1, Name::ClientIdentifier)),
        (("u", "c/1"), Access::Read, "by/c/1", no_rule),
    ] {
        // No topic has a wildcard in it.
        let topic = topic.replace('+', "-");
        let subject = subject(client, user);
        let ruling = acl.decide(&subject, access, TopicName::new(&topic).unwrap());
        assert_eq!(ruling, expected, "{user} {client} {topic}");
        if access == Access::Read {
            assert_eq!(acl.decide_filter(&subject, TopicFilter::new(&topic).unwrap()), expected, "{topic}");
        }
    }
    let ruling = acl.decide_filter(&subject("c", "a/b"), TopicFilter::new("devices/#").unwrap());
    assert_eq!(ruling, unused(1, Name::UserName));
    assert_eq!(
        acl.explain(ruling).to_string(),
        "no rule of file allows it; the pattern file:1 is not used, since the User Name has a '/', '+' or '#'"
    );
}

/// One line of a file for the model: whether it is a pattern, its user, its access and its filter.
#[derive(Clone, Debug)]
struct Line {
    is_pattern: bool,
    user: &'static str,
    access: &'static str,
    filter: String,
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let level = prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "u", "$s", ""]),
        2 => Just("+"), 1 => Just("%c"), 1 => Just("%u"),
    ];
    let filter = (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(levels, hash)| {
        let text = levels.join("/");
        if hash || text.is_empty() { format!("{text}/#").trim_start_matches('/').to_owned() } else { text }
    });
    let access = prop::sample::select(vec!["read", "write", "readwrite", "deny"]);
    let user = prop::sample::select(vec!["", "u", "a+"]);
    let line = (any::<bool>(), user, access, filter).prop_map(|(is_pattern, user, access, filter)| Line {
        is_pattern,
        user,
        access,
        filter,
    });
    prop::collection::vec(line, 0..8)
}

/// Writes the lines as a file. Rules for anonymous clients come first, as they must.
fn text_of(lines: &[Line]) -> String {
    let mut text = String::new();
    for user in ["", "u", "a+"] {
        if !user.is_empty() {
            text += &format!("user {user}\n");
        }
        for line in lines.iter().filter(|line| !line.is_pattern && line.user == user) {
            text += &format!("topic {} {}\n", line.access, line.filter);
        }
    }
    for line in lines.iter().filter(|line| line.is_pattern) {
        text += &format!("pattern {} {}\n", line.access, line.filter);
    }
    text
}

/// The documented order of evaluation, with the standard's matching and with names substituted as text.
fn model(lines: &[Line], client: &str, user: &str, access: &str, topic: TopicName<'_>) -> bool {
    let judge = |rules: &[(&str, String)]| {
        let matches = |filter: &str| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic));
        if rules.iter().any(|(word, filter)| *word == "deny" && matches(filter)) {
            return Some(false);
        }
        rules.iter().any(|(word, filter)| word.contains(access) && matches(filter)).then_some(true)
    };
    let own: Vec<_> = lines
        .iter()
        .filter(|line| !line.is_pattern && line.user == user)
        .map(|line| (line.access, line.filter.clone()))
        .collect();
    if let Some(decided) = judge(&own) {
        return decided;
    }
    if client.contains(['+', '#']) || user.contains(['+', '#']) {
        return false;
    }
    let is_fit = |line: &&Line| {
        let begins_with_name = line.filter.starts_with("%c") || line.filter.starts_with("%u");
        line.is_pattern
            && !(line.filter.contains("%u") && (user.is_empty() || user.contains('/')))
            && !(line.filter.contains("%c") && client.contains('/'))
            && !(begins_with_name && topic.is_reserved())
    };
    let patterns: Vec<_> = lines
        .iter()
        .filter(is_fit)
        .map(|line| (line.access, line.filter.replace("%c", client).replace("%u", user)))
        .collect();
    judge(&patterns) == Some(true)
}

fn topics() -> Vec<String> {
    let levels = ["a", "b", "u", "$s", ""];
    let one = levels.iter().map(|&level| level.to_owned());
    let two = levels.iter().flat_map(|first| levels.iter().map(move |second| format!("{first}/{second}")));
    let three = ["a/b/u", "a/b/x", "u/u/u", "$s/a/b", "a//b", "b/a/u/x", "x"].map(str::to_owned);
    one.chain(two).chain(three).filter(|topic| !topic.is_empty()).collect()
}

proptest! {
    #[test]
    fn decisions_are_those_of_the_model(
        lines in lines(),
        client in prop::sample::select(vec!["a", "b", "x/y", "+", "$s", ""]),
        user in prop::sample::select(vec!["", "u", "b", "a+"]),
    ) {
        let text = text_of(&lines);
        let acl = parse(&text);
        for topic in topics() {
            let name = TopicName::new(&topic).unwrap();
            for (access, word) in [(Access::Read, "read"), (Access::Write, "write")] {
                let found = matches!(acl.decide(&subject(client, user), access, name), Ruling::Allowed { .. });
                let expected = model(&lines, client, user, word, name);
                prop_assert_eq!(found, expected, "{} {} {} {}\n{}", client, user, word, topic, text);
            }
        }
    }

    #[test]
    fn a_filter_is_judged_as_its_topics_are(
        lines in lines(),
        filter in prop::sample::select(vec!["#", "+", "a", "a/#", "+/b", "a/+", "+/+", "$s/#", "$s/+", "u/u/#", "/#", "+/a/#"]),
        user in prop::sample::select(vec!["", "u"]),
    ) {
        let acl = parse(&text_of(&lines));
        let subject = subject("a", user);
        let filter = TopicFilter::new(filter).unwrap();
        let readable: Vec<bool> = topics()
            .iter()
            .map(|topic| TopicName::new(topic).unwrap())
            .filter(|&topic| filter.matches(topic))
            .map(|topic| matches!(acl.decide(&subject, Access::Read, topic), Ruling::Allowed { .. }))
            .collect();
        let (is_some, is_all) = (readable.contains(&true), !readable.contains(&false));
        match acl.decide_filter(&subject, filter) {
            Ruling::Allowed { .. } => prop_assert!(is_all, "{}", text_of(&lines)),
            Ruling::Denied { .. } | Ruling::Unused { .. } => prop_assert!(!is_some, "{}", text_of(&lines)),
            Ruling::InPart { .. } => {}
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        pieces in prop::collection::vec(
            prop_oneof![
                Just(b"user ".to_vec()), Just(b"topic ".to_vec()), Just(b"pattern ".to_vec()), Just(b"\n".to_vec()),
                Just(b"read ".to_vec()), Just(b"deny ".to_vec()), Just(b"maxqos 1 ".to_vec()), Just(b"a/+/%c".to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..16,
        ),
    ) {
        let bytes = pieces.concat();
        if let Err(wrong) = Acl::parse("file", &bytes) {
            prop_assert!(wrong.iter().all(|error| error.place.starts_with("file:")));
        }
    }
}
