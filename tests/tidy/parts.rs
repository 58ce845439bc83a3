//! How many parts of its state a function of the broker knows. The state is in parts, the fields of `Broker`, so that a
//! reader of one function need not think of all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::shape::{block, name_after};
use crate::words::{has_word, leading_name, names_of_group, without_comments, without_tests};

/// The most parts that one function may name.
const PARTS_MAXIMUM: usize = 3;

/// The fields of the broker that are no parts, and why.
const NO_PARTS: [(&str, &str); 2] = [
    ("options", "they are plain settings, which nothing but a command of the operator changes"),
    ("account", "every call enters it, whatever parts it uses"),
];

/// The parts of the broker's state: the name of each, and its type.
pub type Parts = BTreeMap<String, String>;

/// Reads the parts from the source of the broker.
pub fn parts_of(text: &str) -> Parts {
    let code = without_comments(text);
    let lines: Vec<&str> = code.lines().collect();
    let start = lines.iter().position(|line| *line == "pub struct Broker {").expect("there is a broker");
    let fields = block(&lines[start..]).iter().filter_map(|line| line.trim().split_once(": "));
    let fields = fields.map(|(name, kind)| (name.split(' ').next_back().unwrap_or_default(), kind));
    let parts = fields.filter(|(name, _)| NO_PARTS.iter().all(|(other, _)| name != other));
    parts.map(|(name, kind)| (name.to_owned(), bare(kind.trim_end_matches(',')).to_owned())).collect()
}

/// A type without what says only that the value may be missing, or where it is.
fn bare(kind: &str) -> &str {
    let within = |outer: &str| kind.strip_prefix(outer)?.strip_suffix('>');
    within("Option<").or_else(|| within("Box<")).map_or(kind, bare)
}

/// Finds functions that name too many of the parts, as fields of the broker or as types in their signatures.
pub fn check_parts(parts: &Parts, text: &str) -> Vec<String> {
    let comments_gone = without_comments(text);
    let lines: Vec<&str> = without_tests(&comments_gone).lines().collect();
    let mut is_of_broker = false;
    let mut wrong = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if line.starts_with("impl") {
            is_of_broker = line.ends_with("Broker {");
        }
        let Some(name) = name_after(line, "fn") else { continue };
        let function = joined(block(&lines[index..]));
        let named = named_in(&function, parts, is_of_broker);
        if named.len() > PARTS_MAXIMUM {
            let list = named.into_iter().collect::<Vec<_>>().join(", ");
            wrong.push(format!("`{name}` names more than {PARTS_MAXIMUM} parts of the broker: {list}"));
        }
    }
    wrong
}

/// The lines as one text, in which a chain of calls is not divided.
fn joined(lines: &[&str]) -> String {
    lines.iter().fold(String::new(), |text, line| match line.trim() {
        call if call.starts_with('.') => text + call,
        other => text + " " + other,
    })
}

/// The parts that a function names. `self` is the broker only in a function of the broker.
fn named_in<'a>(function: &str, parts: &'a Parts, is_of_broker: bool) -> BTreeSet<&'a str> {
    let signature = signature_of(function);
    let kinds = ["Broker"].into_iter().chain(is_of_broker.then_some("Self"));
    let kinds: Vec<&str> = kinds.collect();
    let brokers = brokers_of(function, &kinds, is_of_broker);
    let fields = brokers.iter().flat_map(|name| fields_of(function, name));
    let bound = kinds.iter().flat_map(|kind| bound_in(function, kind));
    let names: BTreeSet<String> = fields.chain(bound).collect();
    let is_named = |(name, kind): &(&String, &String)| {
        let is_simple = kind.chars().all(char::is_alphanumeric);
        let is_parameter = if is_simple { has_word(signature, kind) } else { signature.contains(&***kind) };
        is_parameter || names.contains(*name)
    };
    parts.iter().filter(is_named).map(|(name, _)| &**name).collect()
}

/// What comes before the body of a function. A parameter may be a pattern with braces of its own.
fn signature_of(function: &str) -> &str {
    let mut depth = 0;
    let begins_body = |character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0 && character == '{'
    };
    function.find(begins_body).map_or(function, |end| &function[..end])
}

/// The names of brokers in a function: those with such a type, also as parameters of closures, and other names for them.
fn brokers_of<'a>(function: &'a str, kinds: &[&str], is_of_broker: bool) -> BTreeSet<&'a str> {
    let last_word = |text: &'a str| text.split(' ').next_back().unwrap_or_default();
    let typed = function.split(['(', ',', '|', ';', '{']).filter_map(|piece| piece.trim().split_once(": "));
    let is_broker = |kind: &str| {
        let kind = kind.split([')', '=']).next().unwrap_or_default();
        kinds.iter().any(|known| has_word(kind, known))
    };
    let typed = typed.filter(|(_, kind)| is_broker(kind)).map(|(name, _)| last_word(name));
    let mut names: BTreeSet<&str> = typed.chain(["broker"]).chain(is_of_broker.then_some("self")).collect();
    for (name, value) in function.split([';', '{']).filter_map(|statement| statement.split_once(" = ")) {
        let value = value.trim_start_matches(['&', '*', ' ']);
        let value = value.strip_prefix("mut ").unwrap_or(value).trim_start_matches('*');
        if names.contains(value) || value.ends_with(".broker") {
            names.insert(last_word(name));
        }
    }
    names
}

/// The fields of a value that a text names. Calls of its methods are none.
fn fields_of(text: &str, value: &str) -> Vec<String> {
    let path = format!("{value}.");
    let places = text.match_indices(&path).filter(|(start, _)| {
        !text[..*start].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    });
    let names = places.map(|(start, _)| {
        let rest = &text[start + path.len()..];
        let name = leading_name(rest);
        (rest[name.len()..].starts_with('('), name)
    });
    names.filter(|(is_call, _)| !is_call).map(|(_, name)| name).collect()
}

/// The fields that patterns take out of values of a type, wherever a pattern may be. A new value of the type is none.
fn bound_in(text: &str, kind: &str) -> Vec<String> {
    let start = format!("{kind} {{");
    let groups = text.split(&start).skip(1);
    let patterns = groups.filter(|group| {
        let (fields, rest) = group.split_at(length_of_group(group));
        fields.trim_end().ends_with("..") || rest.trim_start_matches(['}', ' ']).starts_with(['=', ':', '|'])
    });
    patterns.flat_map(names_of_group).collect()
}

/// The number of bytes before the brace that closes a group; `group` is the text after its opening brace.
fn length_of_group(group: &str) -> usize {
    let mut depth = 0;
    let closes = |character| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth < 0
    };
    group.find(closes).unwrap_or(group.len())
}

/// A broker of five parts, and a function of it.
#[cfg(test)]
fn wrong_with(function: &str) -> Vec<String> {
    let broker = "\
pub struct Broker {
    options: Options,
    /// A part.
    clock: Clock,
    clients: Clients,
    connections: Slots<ConnectionMark, Connection>,
    system: Option<Box<System>>,
    turn: Turn,
    account: Account,
}
";
    let parts = parts_of(broker);
    assert_eq!(parts.len(), 5);
    check_parts(&parts, &format!("{broker}\n{function}"))
}

#[test]
fn a_function_that_names_too_many_parts_is_found() {
    let of_broker = |signature: &str, body: &str| {
        wrong_with(&format!("impl Broker {{\n    {signature} {{\n        {body}\n    }}\n}}\n"))
    };
    let found =
        |list: &str| vec![format!("`one` names more than {PARTS_MAXIMUM} parts of the broker: {list}")];
    for (signature, body) in [
        ("fn one(&mut self)", "self.clock.arm(self.clients.len() + self.turn.left());"),
        ("fn one(&mut self)", "self.clock.arm(self.options.clock, self.connections(), self.turn());"),
        ("fn one(&mut self)", "// self.clock, self.clients, self.turn, self.system"),
        ("fn one(&mut self, clock: &mut Clock)", "self.clients.len() + self.turn.left()"),
        ("fn one(&mut self)", "let Self { clock, clients, turn, .. } = self;"),
        ("fn one(&mut self)", "self.clock.arm(other.clients, other.system, self.turn.clients);"),
        (
            "fn one(clock: Clock, turn: Turn) -> Self",
            "Self { clock, turn, clients: clients(), system: None }",
        ),
    ] {
        assert_eq!(of_broker(signature, body), [""; 0], "{body}");
    }
    for (signature, body) in [
        ("fn one(&mut self)", "self.clock.arm(self.clients.len(), self.turn.left(), self.system);"),
        (
            "fn one(&mut self)",
            "self\n            .clock\n            .arm(self.clients, &mut self.turn, &self.system)",
        ),
        (
            "pub(super) fn one(&mut self)",
            "let Self { clock, clients, turn: Turn { left }, system, .. } = self;",
        ),
        ("fn one(this: &mut Self)", "(this.clock, this.clients, this.turn, this.system)"),
        ("fn one(mut this: Self)", "(this.clock, this.clients, this.turn, this.system)"),
        ("fn one(&mut self)", "let this = &mut *self; (this.clock, this.clients, this.turn, this.system)"),
        ("fn one(&mut self)", "let f = |it: &mut Self| (it.clock, it.clients, it.turn, it.system);"),
        ("fn one(&mut self)", "let f = |Self { clock, clients, turn, system }: &mut Self| clock;"),
        ("fn one(&mut self)", "if let Some(Self { clock, clients, turn, system, .. }) = it { }"),
        ("fn one(Self { clock, clients, turn, system, .. }: &mut Self)", "clock.arm(clients)"),
        (
            "fn one(\n        Broker { clock, clients, turn, system, .. }: &mut Broker,\n    )",
            "clock.arm(clients)",
        ),
        (
            "fn one(&mut self)",
            "self.clock.arm(|| {\n            let clients = &mut self.clients;\n            (&self.turn, &self.system)\n        })",
        ),
        ("fn one(broker: &mut Self)", "(broker.clock, broker.clients, broker.turn, broker.system)"),
        (
            "fn one(\n        &mut self,\n        turn: &mut Turn,\n    )",
            "self.clock(self.system, self.clients, self.clock);",
        ),
        ("fn one(system: &System, clock: &Clock, turn: &Turn, clients: &Clients)", "system.take()"),
    ] {
        assert_eq!(of_broker(signature, body), found("clients, clock, system, turn"), "{body}");
    }
}

#[test]
fn parts_are_counted_outside_functions_of_the_broker_as_well() {
    let found = "`one` names more than 3 parts of the broker: clients, clock";
    let slots = "connections: &mut Slots<ConnectionMark, Connection>";
    let free = format!(
        "fn one(broker: &mut Broker, {slots}) {{\n    let Broker {{ clock, clients, turn, .. }} = broker;\n}}\n"
    );
    assert_eq!(wrong_with(&free), [format!("{found}, connections, turn")]);
    let borrowed = "impl Reading<'_> {\n    fn one(&self) {\n        let it = self.broker;\n        (it.clock, it.clients, self.broker.turn, self.broker.system)\n    }\n}\n";
    assert_eq!(wrong_with(borrowed), [format!("{found}, system, turn")], "a broker may be a field");
    let of_part = "impl Waiting {\n    fn one(&self) {\n        (self.clock, self.clients, self.turn, self.system)\n    }\n}\n";
    assert_eq!(wrong_with(of_part), [""; 0], "a part may have fields of these names");
}

#[test]
fn a_new_field_of_the_broker_is_a_part() {
    let fields = "options: Options,\n    pub(super) new: Option<Box<New>>,\n";
    let parts = parts_of(&format!("pub struct Broker {{\n    {fields}}}\n"));
    assert_eq!(parts, Parts::from([("new".to_owned(), "New".to_owned())]));
}
