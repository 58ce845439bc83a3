//! The paths in values, which the table of keywords marks. Who looks for a path in a statement asks here.

use core::ops::Range;

use super::row::{Form, Keyword, Meaning, Named, Setting, Special};
use crate::config::file::values::{comment_starts, is_blank};

impl Keyword {
    /// What the path in a value of this keyword names, and where the path is in the value; `None` if there is none.
    pub fn path_in(&self, value: &str) -> Option<(Named, Range<usize>)> {
        let (named, place) = match self.meaning {
            Meaning::Sets(Setting { form: Form::Path(named, _), .. }) => (*named, 0..value.len()),
            Meaning::Sets(Setting { form: Form::PathAfter(word, ..), .. }) => {
                (Named::File, after(value, word)?)
            }
            Meaning::Special(Special::IncludeDirectory) => (Named::Directory, 0..value.len()),
            Meaning::Special(Special::Listener) => (Named::Socket, socket_in(value)?),
            _ => return None,
        };
        (!place.is_empty()).then_some((named, place))
    }
}

/// The place of what follows a first word.
fn after(value: &str, word: &str) -> Option<Range<usize>> {
    let rest = value.strip_prefix(word)?;
    let path = rest.trim_start_matches(is_blank);
    (path.len() < rest.len()).then(|| value.len() - path.len()..value.len())
}

/// The place of the path of a socket, which follows the port 0. Other words there are addresses.
fn socket_in(value: &str) -> Option<Range<usize>> {
    let (port, rest) = value.split_once(is_blank)?;
    let rest = rest.trim_start_matches(is_blank);
    let path = rest.split(is_blank).next().unwrap_or_default();
    let is_address = path.parse::<std::net::IpAddr>().is_ok();
    let start = value.len() - rest.len();
    (port.parse() == Ok(0_u16) && !is_address && !comment_starts(path)).then(|| start..start + path.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::keywords::find;

    #[test]
    fn a_path_is_found_in_its_value() {
        for (keyword, value, named, path) in [
            ("acl_file", "/a b", Named::File, "/a b"),
            ("capath", "a", Named::Directory, "a"),
            ("include_dir", "a", Named::Directory, "a"),
            ("log_dest", "file  file", Named::File, "file"),
            ("listener", "0 \t0 more", Named::Socket, "0"),
        ] {
            let (found, place) = find(keyword).unwrap().path_in(value).unwrap();
            assert_eq!((found, &value[place]), (named, path), "{keyword} {value}");
        }
        for (keyword, value) in [
            ("acl_file", ""),
            ("log_dest", "file"),
            ("log_dest", "filer /x"),
            ("log_dest", "stderr"),
            ("listener", "0"),
            ("listener", "0 ::1"),
            ("listener", "0 #"),
            ("listener", "1883 host"),
            ("max_qos", "1"),
        ] {
            assert_eq!(find(keyword).unwrap().path_in(value), None, "{keyword} {value}");
        }
    }
}
