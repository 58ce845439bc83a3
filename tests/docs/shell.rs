//! A shell in which the commands of a page are run, in a directory and a network of its own.

#![expect(clippy::disallowed_methods, reason = "programs run in real time, on files")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::page::is_as_expected;

/// Longer than anything here takes; what takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client that has connected is given to subscribe, as a reader gives it who types the next command.
const PAUSE: Duration = Duration::from_millis(500);
/// How long to wait for a client that may never connect.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);
/// The user who runs the commands if the test is run by root, as few readers are.
const NOBODY: u32 = 65534;

/// Reads commands, each with a NUL at its end, and reports the status of each to standard output, while the output of the
/// commands themselves goes to the first argument.
const LOOP: &str = "exec 8>&1 9<&0 >>\"$1\" 2>&1 </dev/null; while IFS= read -r -d '' command <&9; do \
                    eval \"$command\" 8>&- 9<&-; echo $? >&8; done";

/// The directory in which the commands of a page are run, as the page names it.
const HOME: &str = "/srv/brooklet";

/// A directory with a copy of the binary, since not every user may read the one in which it was built.
pub struct Program(PathBuf);

impl Program {
    pub fn copy() -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-docs-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("it was made here");
        // A process of its own copies it: a file that is open for writing in a process that was forked meanwhile cannot
        // be run.
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_brooklet")).arg(directory.join("brooklet")).status();
        assert!(copied.is_ok_and(|status| status.success()), "the binary can be copied");
        Self(directory)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub struct Shell {
    child: Child,
    input: ChildStdin,
    statuses: Receiver<i32>,
    /// Files of the test itself, beside the directory in which the commands are run.
    room: PathBuf,
    directory: PathBuf,
    /// How many lines of the output have been compared.
    compared: usize,
    terminals: usize,
}

impl Shell {
    /// Starts a shell for the page with this name. Its commands find the binary by its name.
    pub fn start(name: &str, program: &Program) -> Result<Self, String> {
        let room = std::env::temp_dir().join(format!(
            "brooklet-docs-{}-{}",
            std::process::id(),
            name.replace('/', "-")
        ));
        let directory = room.join("page");
        fs::create_dir_all(&directory).expect("a directory can be made");
        for place in [&room, &directory] {
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).expect("it was made here");
            if is_root() {
                chown(place, Some(NOBODY), Some(NOBODY)).expect("root may do this");
            }
        }
        let mut command = isolated();
        command.args(["bash", "-c", LOOP, "bash"]).arg(room.join("output"));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", program.0.display()))
            .env("HOME", &directory);
        command.env_remove("RUST_LOG").current_dir(&directory).process_group(0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{error}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (report, statuses) = channel();
        let lines = BufReader::new(output.expect("it is a pipe")).lines();
        thread::spawn(move || {
            for status in lines.map_while(Result::ok).map_while(|line| line.parse().ok()) {
                if report.send(status).is_err() {
                    break;
                }
            }
        });
        let input = input.expect("it is a pipe");
        let mut shell = Self { child, input, statuses, room, directory, compared: 0, terminals: 0 };
        shell.run("true").map(|_| shell)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("the file can be written");
        if is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root may do this");
        }
    }

    /// Runs a command and returns its status. One that goes into the background writes its errors and its log elsewhere,
    /// as it would to a terminal of its own.
    pub fn run(&mut self, command: &str) -> Result<i32, String> {
        let Some(background) = command.strip_suffix('&').filter(|rest| !rest.ends_with('&')) else {
            return self.evaluate(command);
        };
        let before = self.signs_of(command);
        let log = self.room.join("log");
        let status = self.evaluate(&format!("{background} 2>>'{}' &", log.display()))?;
        self.wait_for(command, before).map(|()| status)
    }

    /// Runs these commands in a terminal that stays open, and returns its number.
    pub fn open_terminal(&mut self, commands: &[&str]) -> Result<usize, String> {
        self.terminals += 1;
        let script = self.room.join(format!("terminal-{}", self.terminals));
        fs::write(&script, commands.join("\n") + "\n").expect("the file can be written");
        let output = self.output_of(self.terminals);
        let before = self.signs_of(commands[0]);
        self.evaluate(&format!("(bash '{}' </dev/null >'{}' 2>&1 &)", script.display(), output.display()))?;
        self.wait_for(commands[0], before).map(|()| self.terminals)
    }

    /// How many signs of life of such a program have been logged: that a broker runs, or that one has a new client.
    fn signs_of(&self, command: &str) -> usize {
        self.logged()
            .matches(if is_broker(command) { " running\n" } else { ": New client connected " })
            .count()
    }

    /// Waits until a program that was started can be expected to have done its first work.
    fn wait_for(&self, command: &str, before: usize) -> Result<(), String> {
        let is_alive = || self.signs_of(command) > before;
        if is_broker(command) {
            let is_running = wait_until(PATIENCE, is_alive);
            return if is_running { Ok(()) } else { Err(format!("it does not run:\n{}", self.logged())) };
        }
        wait_until(SHORT_PATIENCE, is_alive);
        thread::sleep(PAUSE);
        Ok(())
    }

    /// What all programs in the background and in other terminals have written.
    fn logged(&self) -> String {
        let outputs = (1..=self.terminals).map(|number| self.output_of(number));
        let texts =
            outputs.chain([self.room.join("log")]).map(|path| fs::read_to_string(path).unwrap_or_default());
        texts.collect()
    }

    /// What a file of the test has, as the pages print it: their commands are run in [`HOME`].
    fn read(&self, path: &Path) -> String {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.replace(&*self.directory.to_string_lossy(), HOME)
    }

    /// Waits until what has been printed since the last comparison is as expected.
    pub fn compare(&mut self, expected: &[String]) -> Result<(), String> {
        let compared = self.compared;
        let printed = || self.read(&self.room.join("output"));
        let is_right = wait_until(PATIENCE, || {
            let text = printed();
            is_as_expected(expected, &text.lines().skip(compared).collect::<Vec<_>>())
        });
        let text = printed();
        self.compared = text.lines().count();
        let why = || {
            format!("{}\nlogged was:\n{}", difference(expected, text.lines().skip(compared)), self.logged())
        };
        if is_right { Ok(()) } else { Err(why()) }
    }

    /// Forgets what has been printed since the last comparison.
    pub fn skip(&mut self) {
        self.compared = fs::read_to_string(self.room.join("output")).unwrap_or_default().lines().count();
    }

    /// What has been printed since the last comparison.
    pub fn printed(&self) -> String {
        let text = self.read(&self.room.join("output"));
        text.lines().skip(self.compared).collect::<Vec<_>>().join("\n")
    }

    /// Waits until what has been printed in a terminal is as expected.
    pub fn compare_terminal(&self, number: usize, expected: &[String]) -> Result<(), String> {
        let printed = || self.read(&self.output_of(number));
        let is_right =
            wait_until(PATIENCE, || is_as_expected(expected, &printed().lines().collect::<Vec<_>>()));
        if is_right { Ok(()) } else { Err(difference(expected, printed().lines())) }
    }

    fn output_of(&self, terminal: usize) -> PathBuf {
        self.room.join(format!("output-{terminal}"))
    }

    fn evaluate(&mut self, command: &str) -> Result<i32, String> {
        self.input
            .write_all(format!("{command}\0").as_bytes())
            .map_err(|_| self.why("the shell has ended"))?;
        self.statuses.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.why("it does not end"),
            RecvTimeoutError::Disconnected => self.why("the shell has ended"),
        })
    }

    fn why(&self, what: &str) -> String {
        format!("{what}; printed was:\n{}", self.printed())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.room);
    }
}

/// Whether the test is run by root, with the right to make a network. In some containers root has not.
fn is_root() -> bool {
    static IS_ROOT: OnceLock<bool> = OnceLock::new();
    *IS_ROOT.get_or_init(|| {
        let is_allowed = || Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
        fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
            && is_allowed().is_ok_and(|status| status.success())
    })
}

/// A command whose arguments are run in a network of its own, without rights beyond those of a user. Where the test is
/// not run by root, that takes a namespace of users, in which `nobody` is the user who runs the test.
fn isolated() -> Command {
    const LOOPBACK: &str = "ip link set lo up && exec setpriv ";
    let mut command = Command::new("unshare");
    let user = if is_root() {
        command.arg("--net");
        format!("--reuid={NOBODY} --regid={NOBODY} --clear-groups")
    } else {
        command.arg(format!("--map-user={NOBODY}")).arg(format!("--map-group={NOBODY}"));
        command.args(["--keep-caps", "--net"]);
        "--ambient-caps=-all --inh-caps=-all".to_owned()
    };
    command.args(["sh", "-c", &format!("{LOOPBACK}{user} \"$@\""), "sh"]);
    command
}

/// Whether a command starts a broker.
fn is_broker(command: &str) -> bool {
    ["brooklet", "mosquitto"].contains(&command.split(' ').next().unwrap_or_default())
}

fn wait_until(patience: Duration, is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

fn difference<'a>(expected: &[String], printed: impl Iterator<Item = &'a str>) -> String {
    let printed: Vec<&str> = printed.collect();
    format!("the page says:\n{}\nprinted was:\n{}", expected.join("\n"), printed.join("\n"))
}

/// What is missing on this machine to run the pages, with the package that has it.
pub fn missing() -> Vec<String> {
    const PROGRAMS: [(&str, &str); 8] = [
        ("bash", "bash"),
        ("ip", "iproute2"),
        ("mosquitto", "mosquitto"),
        ("mosquitto_pub", "mosquitto-clients"),
        ("mosquitto_sub", "mosquitto-clients"),
        ("openssl", "openssl"),
        ("setpriv", "util-linux"),
        ("unshare", "util-linux"),
    ];
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let is_there = |program: &str| path.split(':').any(|place| Path::new(place).join(program).exists());
    let missing = PROGRAMS.iter().filter(|(program, _)| !is_there(program));
    missing.map(|(program, package)| format!("{program} (package {package})")).collect()
}
