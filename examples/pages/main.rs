//! Writes the manual pages and the completions for bash, zsh and fish into a directory, from what `--help` prints and
//! from the table of keywords.

mod completions;
mod help;
mod manual;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use help::Program;

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("Usage: pages DIRECTORY");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{directory}: {why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it writes files")]
fn write(directory: &Path) -> io::Result<()> {
    let program = Program::read();
    std::fs::create_dir_all(directory)?;
    for (name, text) in manual::pages(&program).into_iter().chain(completions::all(&program)) {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}
