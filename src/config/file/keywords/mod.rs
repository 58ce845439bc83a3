//! The table of keywords: what each is said of, its default, what it may be given and where that goes, where it is
//! seen afterwards, and what is to be said of it. Configurations are read by it, the log of a reload is told from it,
//! and the page "Coming from mosquitto" in the README is checked against it.

mod global;
mod listener;
mod others;
mod row;
#[cfg(feature = "system")]
mod shown;

pub(super) use row::{Form, Meaning, Scope, Setting, Special};
pub use row::{Keyword, Standing};
#[cfg(feature = "system")]
pub(super) use {row::Shown, shown::Value};

/// All keywords of mosquitto.conf, and some of our own.
pub fn keywords() -> impl Iterator<Item = &'static Keyword> {
    [global::ROWS, listener::ROWS, others::ROWS].into_iter().flatten()
}

/// The row of the table for a word.
pub(super) fn find(word: &str) -> Option<&'static Keyword> {
    keywords().find(|keyword| match keyword.meaning {
        Meaning::Family(_) => word.strip_prefix(keyword.name).is_some_and(|rest| !rest.is_empty()),
        _ => keyword.name == word,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_keyword_has_one_row_and_a_reason_for_what_it_does_not_do() {
        let names: BTreeSet<&str> = keywords().map(|keyword| keyword.name).collect();
        assert_eq!(names.len(), keywords().count());
        for keyword in keywords() {
            match keyword.meaning {
                Meaning::Ignored | Meaning::Refused => assert!(!keyword.note.is_empty(), "{}", keyword.name),
                Meaning::PartOf(head) => assert!(names.contains(head), "{}", keyword.name),
                Meaning::Family(heads) => {
                    assert!(heads.iter().all(|head| names.contains(head)), "{}", keyword.name);
                }
                _ => {}
            }
        }
    }
}
