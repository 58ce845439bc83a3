//! The simulator against a broker with deliberate faults: a test that finds nothing in a broken broker proves nothing.
//! Each fault is to be found in a limited number of seeds, and without one the same seeds pass.
//!
//! The sources know nothing of faults. The table in `faults.rs` says where each would be. All of them are woven into a
//! copy of the sources, each under the condition that it is the one that is planted, so that one build of the simulator
//! serves them all.

mod faults;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use faults::{FAULTS, Fault};

/// A fault that hides for longer would hide for ever.
const SEEDS: u64 = 2_000;

/// The tests of the simulator that have to find them: those of bridges, and all others.
const TEST_OF_BRIDGES: &str = "a_bridge_delivers_what_was_promised";
const TEST: &str = "whatever_happens_every_promise_holds";

/// What stands in the table for the question whether the fault is planted.
const PLANTED: &str = "PLANTED";

/// What the copy has in addition: which fault is planted, as the environment says.
const SWITCH: &str = r#"
//! The fault that is planted.

use std::sync::LazyLock;

static PLANTED: LazyLock<Option<usize>> =
    LazyLock::new(|| std::env::var("PLANTED").ok().map(|number| number.parse().expect("a number")));

pub fn is_planted(fault: usize) -> bool {
    *PLANTED == Some(fault)
}
"#;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A source file with the faults that belong into it, or what is wrong with their places.
fn weave(path: &str, source: &str) -> Result<String, String> {
    let mut woven = source.to_owned();
    for (number, fault) in FAULTS.iter().enumerate() {
        for (_, place, planted) in fault.places.iter().filter(|(file, ..)| *file == path) {
            let counts = (source.matches(place).count(), woven.matches(place).count());
            if counts != (1, 1) {
                return Err(format!(
                    "src/{path} has the place of {} {} times, and {} times beside the others, expected once: say in \
                     tests/planted/faults.rs where it is now:\n{place}",
                    fault.name, counts.0, counts.1
                ));
            }
            let question = format!("crate::planted::is_planted({number})");
            woven = woven.replace(place, &planted.replace(PLANTED, &question));
        }
    }
    Ok(woven)
}

#[test]
fn every_place_is_there_once() {
    let mut wrong: Vec<String> = Vec::new();
    for path in FAULTS.iter().flat_map(|fault| fault.places).map(|(file, ..)| file) {
        match fs::read_to_string(root().join("src").join(path)) {
            Ok(source) => wrong.extend(weave(path, &source).err()),
            Err(why) => wrong.push(format!("src/{path}, which tests/planted/faults.rs names: {why}")),
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let places = FAULTS.iter().flat_map(|fault| fault.places);
    assert!(
        places.into_iter().all(|(_, place, planted)| !place.contains(PLANTED) && planted.contains(PLANTED))
    );
}

/// Copies a directory, and weaves the faults in if it is that of the sources.
#[expect(clippy::disallowed_methods, reason = "a test may write files")]
fn copy(from: &Path, to: &Path, sources: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &target, sources)?;
        } else if let Ok(inside) = path.strip_prefix(sources) {
            let inside = inside.to_str().expect("names are text");
            fs::write(&target, weave(inside, &fs::read_to_string(&path)?).map_err(io::Error::other)?)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Makes the copy, in which everything is as here but for the faults.
#[expect(clippy::disallowed_methods, reason = "a test may write files")]
fn copy_house(to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    for directory in ["src", "tests", "examples", "packages", ".cargo"] {
        copy(&root().join(directory), &to.join(directory), &root().join("src"))?;
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root().join(file), to.join(file))?;
    }
    fs::write(to.join("src/planted.rs"), SWITCH)?;
    let lib = fs::read_to_string(to.join("src/lib.rs"))?;
    fs::write(to.join("src/lib.rs"), lib + "\nmod planted;\n")
}

/// Builds the simulator of the copy beside our own builds, whose dependencies are its own, and tells where it is.
fn build(copy: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in that of the builds");
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--no-run", "--message-format", "json", "--test", "simulation"]);
    // What cargo tells a test of its package would have dependencies built anew that look at it.
    let of_this_test = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(of_this_test) {
        command.env_remove(name);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--manifest-path").arg(copy.join("Cargo.toml")).arg("--target-dir").arg(target);
    let output = command.stderr(Stdio::inherit()).output().expect("cargo can be started");
    assert!(output.status.success(), "the copy with the faults does not compile");
    let messages = String::from_utf8(output.stdout).expect("cargo writes text");
    let built = messages.lines().filter(|line| line.contains(r#""name":"simulation""#));
    let mut paths = built.filter_map(|line| line.split_once(r#""executable":""#)?.1.split('"').next());
    paths.next().expect("a test that is built is an executable").into()
}

/// The test that has to find a fault.
fn test_for(fault: &Fault) -> &'static str {
    let is_of_bridges = fault.places.iter().any(|(file, ..)| file.starts_with("bridge/"));
    if is_of_bridges { TEST_OF_BRIDGES } else { TEST }
}

/// The first of so many seeds of a test that fails, if one does.
fn first_find(simulator: &Path, test: &str, fault: Option<usize>, seeds: u64) -> Option<u64> {
    let mut command = Command::new(simulator);
    command.args(["--exact", test]).env("SEED", "0").env("SEEDS", seeds.to_string()).env_remove(PLANTED);
    if let Some(fault) = fault {
        command.env(PLANTED, fault.to_string());
    }
    let output = command.current_dir(root()).output().expect("the simulator can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        assert!(said.contains("1 passed"), "there is no test {test}: {said}");
        return None;
    }
    let said = said.into_owned() + &String::from_utf8_lossy(&output.stderr);
    let seed = said.split_once("seed ").and_then(|(_, rest)| rest.split_once(" fails")?.0.parse().ok());
    Some(seed.unwrap_or_else(|| panic!("it fails without naming a seed: {said}")))
}

/// The seed that finds each of the faults.
fn find_all(simulator: &Path) -> Vec<(&'static Fault, Option<u64>)> {
    let (next, finds) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(fault) = FAULTS.get(number) else { return };
                    let found = first_find(simulator, test_for(fault), Some(number), SEEDS);
                    finds.lock().unwrap_or_else(PoisonError::into_inner).push((fault, found));
                }
            });
        }
    });
    finds.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
#[ignore = "builds the simulator once more"]
fn every_planted_fault_is_found() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    copy_house(&copy).expect("the sources can be copied");
    let simulator = build(&copy);
    let finds = find_all(&simulator);
    for (fault, seed) in &finds {
        println!("{}: {seed:?}", fault.name);
    }
    let missed: Vec<String> = finds
        .iter()
        .filter(|(_, seed)| seed.is_none())
        .map(|(fault, _)| format!("{} ({})", fault.name, fault.says))
        .collect();
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
    for test in [TEST, TEST_OF_BRIDGES] {
        let seeds = finds.iter().filter(|(fault, _)| test_for(fault) == test).filter_map(|(_, seed)| *seed);
        let farthest = seeds.max().unwrap_or(0);
        assert_eq!(first_find(&simulator, test, None, farthest + 1), None, "without a fault");
    }
}
