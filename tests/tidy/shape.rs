//! Limits on the sizes of files, functions and structs. Like the rest, it reads lines as `cargo fmt` leaves them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::words::without_comments;

/// The longest file of `src`, in lines.
const FILE_LINES_MAXIMUM: usize = 600;
/// The longest function, in lines from its `fn` to its closing brace.
const FUNCTION_LINES_MAXIMUM: usize = 60;
/// The most fields of a struct of the core.
const FIELDS_MAXIMUM: usize = 15;

/// Structs of the core that are plain settings: lists of independent values.
const PLAIN_SETTINGS: [&str; 1] = ["core/limits.rs: struct Limits"];

/// Finds what is too large in a file of `src`, given its path there: its place, and its size.
pub fn too_large(path: &Path, text: &str) -> BTreeMap<String, String> {
    let path = path.display().to_string();
    let mut found = BTreeMap::new();
    let count = text.lines().count();
    if count > FILE_LINES_MAXIMUM {
        found.insert(path.clone(), format!("{count} lines, more than {FILE_LINES_MAXIMUM}"));
    }
    let code = without_comments(text);
    let lines: Vec<&str> = code.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        if let Some(name) = name_after(line, "fn") {
            let count = block(&lines[index..]).len();
            if count > FUNCTION_LINES_MAXIMUM {
                let what = format!("{count} lines, more than {FUNCTION_LINES_MAXIMUM}");
                found.insert(format!("{path}: fn {name}"), what);
            }
        }
        if let Some(name) = name_after(line, "struct").filter(|_| path.starts_with("core/")) {
            let (count, place) = (fields(block(&lines[index..])), format!("{path}: struct {name}"));
            if count > FIELDS_MAXIMUM && !PLAIN_SETTINGS.contains(&&*place) {
                found.insert(place, format!("{count} fields, more than {FIELDS_MAXIMUM}"));
            }
        }
    }
    found
}

/// The name that follows a keyword, if the line begins with that and what may precede it.
pub fn name_after<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    let may_precede = |word: &&str| {
        word.starts_with("pub")
            || ["const", "async", "extern", "\"C\"", "in"].contains(word)
            || word.ends_with("::self)")
    };
    let word = words.by_ref().find(|word| !may_precede(word))?;
    let rest = words.next().filter(|_| word == keyword)?;
    rest.split(|character: char| !character.is_alphanumeric() && character != '_').next()
}

/// The lines of the item that begins with the first line: up to the closing brace with the same indentation, or to a
/// semicolon if it has no body.
pub fn block<'a, 'b>(lines: &'a [&'b str]) -> &'a [&'b str] {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let first = indent(lines[0]);
    let is_whole = |line: &str| line.trim_end().ends_with([';', '}']);
    let ends = |line: &&str| !line.trim().is_empty() && indent(line) <= first && is_whole(line);
    let end = lines.iter().position(ends).unwrap_or(lines.len() - 1);
    &lines[..=end]
}

/// The number of fields of a struct.
fn fields(lines: &[&str]) -> usize {
    let step = lines[0].len() - lines[0].trim_start().len() + 4;
    let is_field = |line: &&&str| {
        let rest = line.get(step..).unwrap_or_default();
        let indent = line.len() - line.trim_start().len();
        let without_visibility = match rest.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or("", |(_, name)| name),
            Some(rest) if rest.starts_with(' ') => rest.trim_start(),
            _ => rest,
        };
        let name = without_visibility.split(':').next().unwrap_or_default();
        let is_name = !name.is_empty() && name.chars().all(|each| each.is_alphanumeric() || each == '_');
        indent == step && is_name && without_visibility.contains(": ")
    };
    lines.iter().filter(is_field).count()
}

/// A function whose body has this many lines.
#[cfg(test)]
fn function(head: &str, lines: usize) -> String {
    format!("{head} {{\n{}}}\n", "    f();\n".repeat(lines))
}

#[test]
fn a_file_that_is_too_long_is_found() {
    let path = Path::new("base/a.rs");
    assert!(too_large(path, &"x;\n".repeat(FILE_LINES_MAXIMUM)).is_empty());
    assert!(too_large(path, &"x;\n".repeat(FILE_LINES_MAXIMUM + 1)).contains_key("base/a.rs"));
}

#[test]
fn a_function_that_is_too_long_is_found() {
    let most = FUNCTION_LINES_MAXIMUM - 2;
    for head in ["fn long()", "pub(super) const fn long<'a>(x: &'a u8) -> u8", "pub async fn long()"] {
        let found = |lines| too_large(Path::new("base/a.rs"), &function(head, lines));
        assert!(found(most).is_empty(), "{head}");
        assert_eq!(found(most + 1).into_keys().collect::<Vec<_>>(), ["base/a.rs: fn long"], "{head}");
    }
    let inside = |lines: usize| {
        let function = function("fn long(\n    x: u8,\n)", lines);
        let function = function.lines().fold(String::new(), |text, line| text + "    " + line + "\n");
        format!(
            "trait A {{\n    fn short();\n    fn b() {{}}\n}}\n\nimpl A {{\n{function}\n    fn short() {{}}\n}}\n"
        )
    };
    let found = |lines| too_large(Path::new("base/a.rs"), &inside(lines));
    assert!(found(most - 2).is_empty());
    assert_eq!(found(most - 1).into_keys().collect::<Vec<_>>(), ["base/a.rs: fn long"]);
}

#[test]
fn short_functions_side_by_side_are_not_one_long_one() {
    let text = function("fn short()", 30).repeat(10) + "fn one() -> u8 { 1 }\n" + &"\n".repeat(100);
    assert!(too_large(Path::new("base/a.rs"), &text).is_empty());
}

#[test]
fn a_struct_of_the_core_with_too_many_fields_is_found() {
    let text = |count: usize| {
        let field = |number: usize| match number % 3 {
            0 => format!("    /// A number: of something.\n    field_{number}: u8,\n"),
            1 => format!("    #[cfg(feature = \"a\")]\n    pub field_{number}: Option<u8>,\n"),
            _ => format!("    pub(super) field_{number}: [(); {{\n        0\n    }}],\n"),
        };
        let fields: String = (0..count).map(field).collect();
        format!("#[derive(Debug)]\npub(crate) struct Large<'a> {{\n{fields}}}\n\nstruct Small(u8);\n")
    };
    let found = |path: &str, count| too_large(Path::new(path), &text(count));
    assert!(found("core/a.rs", FIELDS_MAXIMUM).is_empty());
    let large = found("core/a.rs", FIELDS_MAXIMUM + 1);
    assert_eq!(large.into_keys().collect::<Vec<_>>(), ["core/a.rs: struct Large"]);
    assert!(
        found("settings/a.rs", FIELDS_MAXIMUM + 1).is_empty(),
        "others are lists of what an operator says"
    );
}
