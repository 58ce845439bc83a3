//! The example that runs several nodes on one machine: `make cluster`.

#![expect(clippy::disallowed_methods, reason = "processes take time, and leave files")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::QoS;

use crate::mqtt::{Client, Options, Version, run};
use crate::nodes::wait_until_heard;
use crate::server::PATIENCE;

/// The example, with a directory of its own for its files.
struct Example {
    directory: PathBuf,
    process: Child,
}

impl Example {
    /// Starts it with a broker and a server of NATS.
    fn start(name: &str, broker: &Path, server: &Path) -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-example-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("files")).expect("a directory can be made");
        let output = fs::File::create(directory.join("output")).expect("a file can be made");
        // Where this test was started in the background, interrupts are ignored, and a script would not change that.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "bash"]);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster/run")).arg(broker);
        command.env("TMPDIR", directory.join("files")).env("NATS_SERVER", server).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("it is a file")).stderr(output);
        let process = command.spawn().expect("the example can be started");
        Self { directory, process }
    }

    fn printed(&self) -> String {
        fs::read_to_string(self.directory.join("output")).expect("it is a file of this test")
    }

    /// Waits until it has printed a text.
    fn wait_for(&self, text: &str) {
        wait_until(|| self.printed().contains(text), || format!("{text:?} is not in:\n{}", self.printed()));
    }

    /// The ports of the nodes and of the load balancer, and their processes, by their names.
    fn places(&self) -> BTreeMap<String, (u16, u32)> {
        let printed = self.printed();
        let lines = printed.lines().filter(|line| line.contains(" port ") && line.contains("process "));
        let place = |line: &str| {
            let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            let after = |word| words.iter().skip_while(|each| **each != word).nth(1).expect("a number");
            let port = after("port").parse().expect("a port");
            (words[0].to_owned(), (port, after("process").parse().expect("a process")))
        };
        lines.map(place).collect()
    }

    /// Waits until it has ended, and checks that it has left nothing.
    fn wait_for_end(&mut self) -> ExitStatus {
        let directory = self.directory.clone();
        let process = &mut self.process;
        let mut status = None;
        wait_until(
            || {
                status = process.try_wait().expect("it is a process of this test");
                status.is_some()
            },
            || "it does not end".to_owned(),
        );
        assert!(processes_of(&directory).is_empty(), "{:?}", processes_of(&directory));
        let left: Vec<_> = fs::read_dir(directory.join("files")).expect("it is there").collect();
        assert!(left.is_empty(), "{left:?}");
        status.expect("it has ended")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for process in processes_of(&self.directory) {
            signal(&process, "KILL");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The processes in whose environment a directory is named.
fn processes_of(directory: &Path) -> Vec<String> {
    let name = directory.file_name().expect("it has a name").to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").expect("there are processes").flatten();
    let is_of = |process: &fs::DirEntry| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&name)
    };
    let found = processes.filter(is_of);
    found.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}

fn signal(process: &str, name: &str) {
    // It may have ended.
    let _ = Command::new("kill").args(["-s", name, process]).stderr(Stdio::null()).status();
}

fn wait_until(mut is_so: impl FnMut() -> bool, why: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{}", why());
        thread::sleep(Duration::from_millis(50));
    }
}

fn broker() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_brooklet"))
}

fn server() -> PathBuf {
    std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into()).into()
}

async fn client(port: u16, name: &str) -> Client {
    Options::at(port, Version::V5, name).connect().await
}

/// The last line that the example prints before it waits.
const READY: &str = "Ctrl-C ends all of it";

#[test]
fn the_example_connects_nodes_until_it_is_interrupted() {
    let mut example = Example::start("whole", broker(), &server());
    example.wait_for(READY);
    let places = example.places();
    assert!(["one", "two", "three"].iter().all(|name| places.contains_key(*name)), "{}", example.printed());
    run(async {
        let mut reader = client(places["one"].0, "reader").await;
        reader.subscribe("hello/#", QoS::AtMostOnce).await;
        // Also through the load balancer, if there is one.
        for (number, (port, _)) in places.values().enumerate() {
            let mut writer = client(*port, &format!("writer {number}")).await;
            wait_until_heard(&mut writer, &mut reader, "hello/world").await;
        }
    });
    signal(&example.process.id().to_string(), "INT");
    assert!(example.wait_for_end().success(), "{}", example.printed());
}

/// A process that stands still does not end when it is asked to.
#[test]
fn the_example_outlives_a_node_and_leaves_nothing() {
    let mut example = Example::start("killed", broker(), &server());
    example.wait_for(READY);
    let places = example.places();
    signal(&places["three"].1.to_string(), "KILL");
    example.wait_for("three has ended");
    run(async {
        let mut reader = client(places["one"].0, "reader").await;
        reader.subscribe("hello/#", QoS::AtMostOnce).await;
        let mut writer = client(places["two"].0, "writer").await;
        wait_until_heard(&mut writer, &mut reader, "hello/world").await;
    });
    signal(&places["two"].1.to_string(), "STOP");
    signal(&example.process.id().to_string(), "INT");
    assert!(example.wait_for_end().success(), "{}", example.printed());
}

#[test]
fn the_example_ends_when_the_last_node_has_ended() {
    let mut example = Example::start("last", broker(), &server());
    example.wait_for(READY);
    let places = example.places();
    for name in ["one", "two", "three"] {
        signal(&places[name].1.to_string(), "KILL");
    }
    assert!(!example.wait_for_end().success());
    assert!(example.printed().contains("no node is left"), "{}", example.printed());
}

#[test]
fn an_example_without_a_broker_leaves_nothing() {
    let mut example = Example::start("broker", Path::new("/bin/false"), &server());
    assert!(!example.wait_for_end().success());
    assert!(example.printed().contains("one does not start"), "{}", example.printed());
}

#[test]
fn an_example_without_servers_leaves_nothing() {
    let path = std::env::temp_dir().join(format!("brooklet-no-server-{}", std::process::id()));
    fs::write(&path, "#!/bin/sh\n[ \"$1\" = --version ] && echo nats-server: v2.14.0\n")
        .expect("a file can be made");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it was made here");
    let mut example = Example::start("server", broker(), &path);
    let status = example.wait_for_end();
    fs::remove_file(&path).expect("it was made here");
    assert!(!status.success());
    assert!(example.printed().contains("nats-1 does not start"), "{}", example.printed());
}
