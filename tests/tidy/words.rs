//! Reads sources by words, not by grammar: it is meant to catch slips, not deliberate deception.

use std::collections::BTreeSet;

/// The text with comments blanked; lines keep their numbers. A `//` inside a literal ends its line as well.
pub fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .fold(String::new(), |code, line| code + line + "\n")
}

/// The code before the test module, which is the last item in a file.
pub fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
}

fn is_of_a_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

pub fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let (before, rest) = text.split_at(start);
        !before.ends_with(is_of_a_word) && !rest[word.len()..].starts_with(is_of_a_word)
    })
}

/// The names that follow `head::` directly, including those of a group in braces. A star is a name as well.
pub fn names_after(code: &str, head: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let path = format!("{head}::");
    for (start, _) in code.match_indices(&path) {
        let (before, rest) = code.split_at(start);
        let rest = &rest[path.len()..];
        if before.ends_with(is_of_a_word) || before.ends_with("::") {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => names.extend(names_of_group(group)),
            None => names.extend([leading_name(rest)]),
        }
    }
    names
}

/// The leading names of a group's members; `group` is the text after its opening brace.
pub fn names_of_group(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut members = vec![String::new()];
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            '{' => depth += 1,
            ',' if depth == 0 => members.push(String::new()),
            _ if depth == 0 => members.last_mut().expect("there is a member").push(character),
            _ => {}
        }
    }
    members.iter().map(|member| leading_name(member.trim())).filter(|name| !name.is_empty()).collect()
}

pub fn leading_name(path: &str) -> String {
    let end = path.find(|character| !is_of_a_word(character)).unwrap_or(path.len());
    if path.starts_with('*') { "*".to_owned() } else { path[..end].to_owned() }
}
