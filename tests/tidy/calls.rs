//! Checks that several brokers of one thread share nothing: each call counts on its broker's own account, and it can
//! change no other statics below the server.

use crate::words::without_comments;

/// How a call of the broker starts, and how the end of a broker does.
const BEGINNINGS: [&str; 2] = ["let _entered = self.account.enter();", "self.account.enter_at_last();"];

/// These hold no counted memory: a function that only asks one of them need not enter.
const NOT_COUNTED: [&str; 2] = ["self.turn.", "self.effects."];

/// Finds public functions of the broker that may change what it holds, but do not enter its account first.
pub fn check_calls(text: &str) -> Vec<String> {
    let code = without_comments(text);
    let (mut is_of_broker, mut is_of_trait) = (false, false);
    let mut wrong = Vec::new();
    let mut lines = code.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        if line.starts_with("impl") {
            is_of_broker = line.ends_with("Broker {");
            is_of_trait = line.contains(" for ");
        }
        let is_public = line.starts_with("    pub ") || is_of_trait;
        let Some((_, name)) = line.split_once("fn ").filter(|_| is_of_broker && is_public) else { continue };
        let mut signature = line.to_owned();
        while !signature.ends_with(['{', '}']) {
            signature += lines.next().expect("a function has a body").trim_start();
        }
        if !signature.contains("&mut self") {
            continue;
        }
        let [first, second] = [lines.next(), lines.next()].map(|line| line.unwrap_or_default().trim());
        let is_counted = second != "}" || !NOT_COUNTED.iter().any(|part| first.starts_with(part));
        if is_counted && !BEGINNINGS.contains(&first) {
            let name = name.split(['(', '<']).next().unwrap_or_default();
            wrong.push(format!("`{name}` does not enter the account of the broker first"));
        }
    }
    wrong
}

/// The statics below the server, and why brokers may share them.
const STATICS: [(&str, &str); 9] = [
    ("HELD", "what is counted on the account that is entered"),
    ("STORED", "the same of messages"),
    ("CURRENT", "which account is entered"),
    ("OTHERS", "what is counted on all others"),
    ("PLANTED", "a fault is one of the code, for every broker that a test runs, and no build for use has it"),
    ("TAKEN", "tests count the short ways that they have taken, whatever broker took them"),
    ("LEVEL", "the log of a test"),
    ("LINES", "the log of a test"),
    ("ALL", "a level of the log that never changes"),
];

/// Finds statics, including thread-local ones, that are not in the list of shared ones.
pub fn check_statics(text: &str) -> Vec<String> {
    let code = without_comments(text);
    let names = code.lines().filter_map(|line| {
        let line = line.trim_start();
        let rest = if line.starts_with("pub") { line.split_once(' ')?.1 } else { line };
        rest.strip_prefix("static ")?.split([':', ' ']).find(|word| *word != "mut")
    });
    let unknown = names.filter(|name| STATICS.iter().all(|(known, _)| known != name));
    unknown.map(|name| format!("all brokers share the static `{name}`")).collect()
}

#[test]
fn a_static_that_brokers_would_share_is_found() {
    let good =
        "thread_local! {\n    static HELD: Cell<u8> = const { Cell::new(0) };\n}\nfn f(a: &'static str) {}";
    assert_eq!(check_statics(good), [""; 0]);
    for line in [
        "static SEEN: Cell<u8>",
        "    pub static SEEN: AtomicU8",
        "pub(super) static SEEN: u8",
        "static mut SEEN: u8",
    ] {
        assert_eq!(check_statics(line), ["all brokers share the static `SEEN`"], "{line}");
    }
}

#[test]
fn a_call_that_does_not_enter_is_found() {
    let call = |signature: &str, body: &str| {
        format!("impl Broker {{\n    {signature} {{\n        {body}\n    }}\n}}\n")
    };
    let enter = BEGINNINGS[0];
    for (signature, body) in [
        ("pub fn one(&mut self, now: Time)", enter),
        ("pub fn one(\n        &mut self,\n    ) -> usize", enter),
        ("pub fn one(&mut self)", "self.turn.two()"),
        ("pub fn one(&self)", "self.two()"),
        ("pub(super) fn one(&mut self)", "self.two();"),
        ("fn one(&mut self)", "self.two();"),
    ] {
        assert_eq!(check_calls(&call(signature, body)), [""; 0], "{signature}");
    }
    for (signature, body) in [
        ("pub fn one(&mut self, now: Time)", "self.two();"),
        ("pub fn one(&mut self)", "self.turn.two();\n        self.two();"),
        ("pub fn one(\n        &mut self,\n    ) -> usize", "self.two()"),
        ("pub fn one<W>(&mut self, writer: W)", "let _ = self.account.enter();"),
    ] {
        let wrong = check_calls(&call(signature, body));
        assert_eq!(wrong, ["`one` does not enter the account of the broker first"], "{signature}");
    }
    let drop = |body: &str| call("fn drop(&mut self)", body).replace("impl Broker", "impl Drop for Broker");
    assert_eq!((check_calls(&drop(BEGINNINGS[1])).len(), check_calls(&drop("self.two();")).len()), (0, 1));
    let other = call("pub fn one(&mut self)", "self.two();").replace("Broker", "Turn");
    assert_eq!(check_calls(&other), [""; 0]);
}
