//! The table of keywords. A row has the scope of the keyword, its default, the form of its value and how to set it, how
//! to show it, and a note. The table is used to read configurations and to log the changes of a reload, and
//! docs/mosquitto.md is checked against it.

mod bridge;
#[cfg(all(feature = "bridge", feature = "system"))]
mod bridge_shown;
mod cluster;
mod global;
mod listener;
mod others;
mod path;
mod row;
#[cfg(feature = "system")]
mod shown;

pub(super) use row::{Form, Meaning, Scope, Setting, Special, Use};
pub use row::{Keyword, Named, Standing};
#[cfg(feature = "system")]
pub(super) use {row::Shown, shown::Value};

/// All keywords of mosquitto.conf, and some of Brooklet's own.
pub fn keywords() -> impl Iterator<Item = &'static Keyword> {
    [global::ROWS, listener::ROWS, bridge::ROWS, cluster::ROWS, others::ROWS].into_iter().flatten()
}

/// Returns the row of a word, if it is a keyword.
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
    fn a_keyword_has_one_row_and_a_note_if_it_has_no_effect() {
        let names: BTreeSet<&str> = keywords().map(|keyword| keyword.name).collect();
        assert_eq!(names.len(), keywords().count());
        for keyword in keywords() {
            match keyword.meaning {
                Meaning::Ignored | Meaning::IgnoredOption | Meaning::Refused => {
                    assert!(!keyword.note.is_empty(), "{}", keyword.name);
                }
                Meaning::PartOf(head) => assert!(names.contains(head), "{}", keyword.name),
                Meaning::Family(heads) => {
                    assert!(heads.iter().all(|head| names.contains(head)), "{}", keyword.name);
                }
                _ => {}
            }
        }
    }
}
