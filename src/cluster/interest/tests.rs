//! The interest against a naive model: at every moment, the subscriptions reach each topic that a filter matches.

use proptest::prelude::*;

use super::*;
use crate::protocol::topic::TopicName;
use crate::settings::ClusterName;

fn subjects() -> Subjects {
    Subjects::new(&ClusterName::new("c").expect("a name"))
}

fn interest(levels: usize, maximum: usize) -> Interest {
    Interest::new(subjects(), levels, maximum)
}

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).expect("a filter")
}

const NOW: Time = Time::from_milliseconds(1_000_000);

/// Adds a filter and returns the changes in short: without the base of subjects.
fn added(interest: &mut Interest, text: &str) -> Vec<String> {
    let mut changes = Vec::new();
    interest.add(filter(text), &mut changes);
    short(&changes)
}

fn expired(interest: &mut Interest, now: Time) -> Vec<String> {
    let mut changes = Vec::new();
    interest.expire(now, &mut changes);
    short(&changes)
}

fn short(changes: &[Change]) -> Vec<String> {
    let text = |change: &Change| match change {
        Change::Subscribe(subject) => subject.replacen("bk.c.", "+", 1),
        Change::Unsubscribe(subject) => subject.replacen("bk.c.", "-", 1),
    };
    changes.iter().map(text).collect()
}

#[test]
fn filters_are_cut_off_and_cover_each_other() {
    let mut interest = interest(3, 100);
    assert_eq!(added(&mut interest, "a/b"), ["+d.a.b.%"]);
    assert_eq!(added(&mut interest, "a/b/c"), ["+d.a.b.c.%"]);
    assert_eq!(added(&mut interest, "a/b/c/d"), ["+d.a.b.c.>", "-d.a.b.c.%"]);
    assert_eq!(added(&mut interest, "a/b/c/e"), [""; 0]);
    assert_eq!(added(&mut interest, "a/#"), ["+d.a.>", "-d.a.b.%", "-d.a.b.c.>", "+dh.>"]);
    assert_eq!(added(&mut interest, "a/+/+/d/+"), [""; 0], "it is covered");
    assert_eq!(added(&mut interest, "+/x"), ["+d.*.x.%"]);
    assert_eq!(added(&mut interest, "$x/+/y"), ["+d$.$x.*.y.%"]);
    assert_eq!(added(&mut interest, "$share/group/z"), ["+d.z.%"]);
    assert_eq!(added(&mut interest, "$SYS/#"), [""; 0]);
    assert_eq!(added(&mut interest, "#"), ["+d.>", "-d.*.x.%", "-d.a.>", "-d.z.%"]);
    assert_eq!(interest.subscriptions(), ["bk.c.d.>", "bk.c.d$.$x.*.y.%", "bk.c.dh.>"]);
    interest.remove(filter("#"), NOW);
    assert_eq!(expired(&mut interest, NOW + LINGER), ["+d.*.x.%", "+d.a.>", "+d.z.%", "-d.>"]);
}

#[test]
fn a_filter_that_comes_and_goes_changes_nothing() {
    let mut interest = interest(3, 100);
    assert_eq!(added(&mut interest, "a"), ["+d.a.%"]);
    for round in 0..100 {
        interest.remove(filter("a"), NOW + Duration::from_seconds(round));
        assert_eq!(expired(&mut interest, NOW + Duration::from_seconds(round)), [""; 0]);
        assert_eq!(interest.next_expiry(), Some(NOW + Duration::from_seconds(round) + LINGER));
        assert_eq!(added(&mut interest, "a"), [""; 0]);
        assert_eq!(interest.next_expiry(), None);
    }
    interest.remove(filter("a"), NOW);
    assert_eq!(expired(&mut interest, NOW + LINGER), ["-d.a.%"]);
    assert_eq!(interest.subscriptions(), [""; 0]);
    assert_eq!(interest.tree.wants(), 0);
}

#[test]
fn too_many_are_joined_where_they_are_most() {
    let mut interest = interest(3, 100);
    let mut changes = Vec::new();
    for number in 0..20 {
        interest.add(filter(&format!("quiet/{number}/state")), &mut changes);
    }
    for number in 0..80 {
        interest.add(filter(&format!("busy/hall/{number}")), &mut changes);
    }
    assert_eq!(interest.subscriptions().len(), 100);
    assert!(!interest.can_be_finer());
    let changes = added(&mut interest, "busy/hall/80");
    assert_eq!(
        changes[..3],
        ["+d.busy.hall.80.%", "+d.busy.hall.>", "-d.busy.hall.0.%"],
        "nothing is lost between"
    );
    assert_eq!(interest.subscriptions().len(), 21, "the quiet ones stay as they are");

    // While many are left, they are not joined for nothing.
    assert!(!interest.can_be_finer());
    for number in 0..60 {
        interest.remove(filter(&format!("busy/hall/{number}")), NOW);
    }
    assert!(interest.can_be_finer());
    let left: Vec<String> = (60..81).map(|number| format!("busy/hall/{number}")).collect();
    let left = left.iter().map(|text| filter(text)).chain([filter("new")]);
    let mut changes = Vec::new();
    interest.rebuild(left, &mut changes);
    assert_eq!(changes.len(), 21 + 1 + 1 + 20);
    assert_eq!(interest.subscriptions().len(), 22);
    assert!(!interest.can_be_finer(), "it is as fine as can be");
}

#[test]
fn joined_filters_are_forgotten_when_all_are_gone() {
    let mut interest = interest(3, 10);
    let names: Vec<String> = (0..11).map(|number| format!("a/{number}")).collect();
    names.iter().for_each(|name| interest.add(filter(name), &mut Vec::new()));
    assert_eq!(interest.subscriptions(), ["bk.c.d.a.>"]);
    names.iter().for_each(|name| interest.remove(filter(name), NOW));
    assert_eq!(added(&mut interest, "a/b/c"), [""; 0]);
    interest.remove(filter("a/b/c"), NOW);
    assert_eq!(expired(&mut interest, NOW + LINGER), ["-d.a.>"]);
    assert_eq!(added(&mut interest, "a/b/c"), ["+d.a.b.c.%"]);
}

#[test]
fn at_the_limit_what_lingers_goes_first() {
    let mut interest = interest(3, 10);
    for number in 0..10 {
        interest.add(filter(&format!("a/{number}")), &mut Vec::new());
    }
    interest.remove(filter("a/3"), NOW);
    assert_eq!(added(&mut interest, "b"), ["+d.b.%", "-d.a.3.%"]);
}

#[test]
fn any_number_of_filters_is_at_most_three_subscriptions_in_the_end() {
    let mut interest = interest(3, 4);
    for number in 0..200 {
        for filter in [format!("{number}"), format!("${number}/#"), format!("{number}/+/x")] {
            added(&mut interest, &filter);
            assert!(interest.tree.wants() <= 4);
        }
    }
    assert_eq!(interest.subscriptions(), ["bk.c.d.>", "bk.c.d$.>", "bk.c.dh.>"]);
}

/// Whether a subscription of NATS gets messages of a subject.
fn is_match(subscription: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in subscription.split('.') {
        let Some(token) = tokens.next() else { return false };
        match wanted {
            ">" => return true,
            "*" => {}
            _ if wanted != token => return false,
            _ => {}
        }
    }
    tokens.next().is_none()
}

#[derive(Clone, Debug)]
enum Step {
    Add(String),
    Remove(usize),
    Wait(u64),
    Rebuild,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let level = || prop::sample::select(vec!["a", "b", "c", "d", "", "+", "$x", "1", "2", "3", "4", "5"]);
    let text = (prop::collection::vec(level(), 1..6), 0..5, 0..40).prop_map(|(levels, end, rare)| {
        let mut text = levels.join("/");
        if end == 0 {
            text += "/#";
        }
        match rare {
            0 => "#".to_owned(),
            1 => format!("$share/g/{text}"),
            2 => text + &"/x".repeat(70),
            3 => text + "/" + &"x".repeat(1100),
            _ => text,
        }
    });
    let filter = text.prop_filter("not a filter", |text| TopicFilter::new(text).is_ok());
    let step = prop_oneof![
        6 => filter.prop_map(Step::Add),
        5 => any::<prop::sample::Index>().prop_map(|index| Step::Remove(index.index(1000))),
        1 => (0_u64..60).prop_map(Step::Wait),
        1 => Just(Step::Rebuild),
    ];
    prop::collection::vec(step, 1..120)
}

/// Topics that a filter matches: its wildcards are replaced, and topics that are longer where it ends with `#`.
fn topics_of(filter: &str) -> Vec<String> {
    let pattern = TopicFilter::new(filter).expect("a filter").pattern().to_owned();
    let mut topics = Vec::new();
    for value in ["a", "", &"y".repeat(1100)] {
        let levels: Vec<&str> =
            pattern.split('/').map(|level| if level == "+" { value } else { level }).collect();
        match levels.split_last() {
            Some((&"#", levels)) => {
                topics.push(levels.join("/"));
                topics.push([levels, &["n", value]].concat().join("/"));
            }
            _ => topics.push(levels.join("/")),
        }
    }
    let matches = |topic: &String| {
        TopicName::new(topic).is_ok_and(|name| TopicFilter::new(filter).expect("a filter").matches(name))
    };
    topics.retain(matches);
    topics
}

/// What a node subscribed to, made up of the changes only.
#[derive(Default)]
struct Model {
    subscribed: BTreeSet<String>,
    filters: Vec<String>,
    /// The subjects that the filters match.
    wanted: Vec<String>,
}

impl Model {
    fn apply(&mut self, changes: &[Change]) -> Result<(), TestCaseError> {
        for change in changes {
            match change {
                Change::Subscribe(subject) => {
                    prop_assert!(self.subscribed.insert(subject.clone()), "{}", subject)
                }
                Change::Unsubscribe(subject) => prop_assert!(self.subscribed.remove(subject), "{}", subject),
            }
            // Only the changes up to the new filter's own may lack it.
            for subject in &self.wanted {
                prop_assert!(self.reaches(subject), "{subject} {:?} {:?}", self.subscribed, changes);
            }
        }
        Ok(())
    }

    fn reaches(&self, subject: &str) -> bool {
        self.subscribed.iter().any(|wanted| is_match(wanted, subject))
    }

    /// Counts the subjects anew.
    fn want(&mut self) {
        self.wanted.clear();
        for topic in self.filters.iter().flat_map(|filter| topics_of(filter)) {
            let mut subject = String::new();
            let name = TopicName::new(&topic).expect("checked");
            if subjects().push_topic(Purpose::Direct, name, &mut subject).is_some() {
                self.wanted.push(subject);
            }
        }
    }
}

proptest! {
    #[test]
    fn all_that_a_filter_matches_is_reached_at_any_time(
        steps in steps(), levels in 0_usize..5, maximum in 4_usize..30,
    ) {
        let mut interest = interest(levels, maximum);
        let mut model = Model::default();
        let mut now = NOW;
        for step in steps {
            let mut changes = Vec::new();
            match step {
                Step::Add(text) => {
                    interest.add(filter(&text), &mut changes);
                    model.filters.push(text);
                }
                Step::Remove(index) if !model.filters.is_empty() => {
                    let text = model.filters.remove(index % model.filters.len());
                    interest.remove(filter(&text), now);
                }
                Step::Remove(_) => {}
                Step::Wait(seconds) => {
                    now = now + Duration::from_seconds(seconds);
                    interest.expire(now, &mut changes);
                }
                Step::Rebuild => interest.rebuild(model.filters.iter().map(|text| filter(text)), &mut changes),
            }
            // Until its first change is made, a new filter is not reached; what was reached before stays so.
            model.apply(&changes)?;
            model.want();
            model.apply(&[])?;
            prop_assert!(model.wanted.iter().all(|subject| model.reaches(subject)), "{:?}", model.subscribed);
            prop_assert_eq!(&model.subscribed, &BTreeSet::from_iter(interest.subscriptions()));
            prop_assert!(model.subscribed.len() <= interest.tree.wants() && interest.tree.wants() <= maximum);
            for wide in model.subscribed.iter().filter_map(|subject| subject.strip_suffix('>')) {
                let covered = model.subscribed.iter().filter(|subject| subject.starts_with(wide)).count();
                prop_assert_eq!(covered, 1, "{} covers another", wide);
            }
        }
        for text in std::mem::take(&mut model.filters) {
            interest.remove(filter(&text), now);
        }
        let mut changes = Vec::new();
        interest.expire(Time::NEVER, &mut changes);
        model.want();
        model.apply(&changes)?;
        prop_assert!(model.subscribed.is_empty() && interest.tree.wants() == 0);
    }
}
