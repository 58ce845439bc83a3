//! Whether each call of the broker counts on the broker's own account.

use crate::words::without_comments;

/// How a call begins, and how the end of a broker does.
const BEGINNINGS: [&str; 2] = ["let _entered = self.account.enter();", "self.account.enter_at_last();"];

/// Functions of the broker that others can call, and that may change what it holds, but do not enter its account first.
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
        let first = lines.next().unwrap_or_default().trim();
        if !BEGINNINGS.contains(&first) {
            let name = name.split(['(', '<']).next().unwrap_or_default();
            wrong.push(format!("`{name}` does not enter the account of the broker first"));
        }
    }
    wrong
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
        ("pub fn one(&self)", "self.two()"),
        ("pub(super) fn one(&mut self)", "self.two();"),
        ("fn one(&mut self)", "self.two();"),
    ] {
        assert_eq!(check_calls(&call(signature, body)), [""; 0], "{signature}");
    }
    for (signature, body) in [
        ("pub fn one(&mut self, now: Time)", "self.two();"),
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
