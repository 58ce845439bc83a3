//! The page about several nodes says what the example runs, and names a test for each promise.

use std::fs;
use std::path::Path;

use crate::page::{Content, blocks};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/cluster.md")).expect("there is a page")
}

#[test]
fn the_files_of_the_page_are_those_of_the_example() {
    let blocks = blocks(&page()).expect("it is a page");
    for name in ["nats.conf", "brooklet.conf", "haproxy.cfg"] {
        let mut texts = blocks.iter().filter_map(|block| match &block.content {
            Content::File { name: found, text } if found == name => Some(text),
            _ => None,
        });
        let example = fs::read_to_string(root().join("examples/cluster").join(name));
        assert_eq!(texts.next(), example.ok().as_ref(), "{name}");
    }
}

#[test]
fn each_promise_of_several_nodes_has_a_test() {
    let page = page();
    let (_, rest) = page.split_once("| promise | test |\n").expect("there is a table");
    let rows: Vec<&str> = rest.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    assert!(!rows.is_empty(), "there are promises");
    let entries = fs::read_dir(root().join("tests/cluster")).expect("there are tests").flatten();
    let sources: String = entries.map(|entry| fs::read_to_string(entry.path()).unwrap_or_default()).collect();
    for row in rows {
        let (_, names) = row.trim_end_matches(" |").rsplit_once("| ").expect("a row has two cells");
        for name in names.split(", ") {
            let name = name.trim_matches('`');
            assert!(sources.contains(&format!("#[test]\nfn {name}()")), "there is no test {name} for: {row}");
        }
    }
}
