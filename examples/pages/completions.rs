//! Completions for shells.

use std::fmt::Write as _;

use super::help::{Flag, Help, Program, Takes};

/// The completions by their file names.
pub fn all(program: &Program) -> Vec<(String, String)> {
    vec![
        ("brooklet.bash".to_owned(), bash(program)),
        ("_brooklet".to_owned(), zsh(program)),
        ("brooklet.fish".to_owned(), fish(program)),
    ]
}

/// The names of the flags whose value is of this kind.
fn that_take(help: &Help, takes: Takes) -> String {
    let flags = help.flags.iter().filter(|flag| flag.takes() == takes);
    flags.flat_map(Flag::names).collect::<Vec<_>>().join(" ")
}

fn names(program: &Program, separator: &str) -> String {
    let names: Vec<&str> = program.subcommands.iter().map(|help| help.name.as_str()).collect();
    names.join(separator)
}

/// What bash runs, with the flags in place of CASES and the subcommands in place of NAMES.
const BASH: &str = r#"# Completion of brooklet for bash.
_brooklet() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
    local flags files directories words kind=-W
    case ${COMP_WORDS[1]} in
CASES    esac
    [ "$COMP_CWORD" != 1 ] || flags="$flags NAMES"
    case " $words " in *" $previous "*) return ;; esac
    case " $directories " in *" $previous "*) kind=-d ;; esac
    case " $files " in *" $previous "*) kind=-f ;; esac
    # The arguments of subcommands are files.
    [ "$COMP_CWORD" = 1 ] || case ${COMP_WORDS[1]}/$current in -*/* | */-*) ;; *) [ "$kind" = -d ] || kind=-f ;; esac
    case $kind in
        -W) mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current") ;;
        *) mapfile -t COMPREPLY < <(compgen "$kind" -- "$current") ;;
    esac
}
complete -o filenames -F _brooklet brooklet
"#;

fn bash(program: &Program) -> String {
    let mut cases = String::new();
    for help in program.subcommands.iter().chain([&program.broker]) {
        let pattern = if help.name.is_empty() { "*" } else { &help.name };
        let flags: Vec<&str> = help.flags.iter().flat_map(Flag::names).collect();
        let _ = writeln!(cases, "        {pattern})\n            flags='{}'", flags.join(" "));
        for (variable, takes) in
            [("files", Takes::File), ("directories", Takes::Directory), ("words", Takes::Word)]
        {
            let _ = writeln!(cases, "            {variable}='{}'", that_take(help, takes));
        }
        cases += "            ;;\n";
    }
    BASH.replace("CASES", &cases).replace("NAMES", &names(program, " "))
}

/// A text for single quotes, in which these characters have a backslash.
fn inside_quotes(text: &str, special: &[char]) -> String {
    let mut safe = String::new();
    for character in text.chars() {
        match character {
            '\'' => safe += "'\\''",
            _ if special.contains(&character) => safe.extend(['\\', character]),
            _ => safe.push(character),
        }
    }
    safe
}

fn zsh(program: &Program) -> String {
    /// They end what `_arguments` shows about a flag.
    const ENDS: [char; 3] = ['[', ']', ':'];
    let mut text = "#compdef brooklet\n\n_brooklet() {\n    case $words[2] in\n".to_owned();
    for help in program.subcommands.iter().chain([&program.broker]) {
        let is_broker = help.name.is_empty();
        let _ = writeln!(text, "        {})", if is_broker { "*" } else { &help.name });
        if is_broker {
            text += "            local -a names=(\n";
            for help in &program.subcommands {
                let purpose = inside_quotes(&help.purpose, &ENDS);
                let _ = writeln!(text, "                '{}:{purpose}'", help.name);
            }
            text +=
                "            )\n            (( CURRENT == 2 )) && _describe -t commands subcommand names\n";
        } else {
            text += "            shift words\n            (( CURRENT-- ))\n";
        }
        text += "            _arguments -s";
        for flag in &help.flags {
            let value = match (flag.takes(), &flag.value) {
                (Takes::File, Some(name)) => format!(":{name}:_files"),
                (Takes::Directory, Some(name)) => format!(":{name}:_files -/"),
                (_, Some(name)) => format!(":{name}: "),
                (_, None) => String::new(),
            };
            let others = flag.names().join(" ");
            let said = inside_quotes(&flag.help, &ENDS);
            for name in flag.names() {
                let _ = write!(text, " \\\n                '({others}){name}[{said}]{value}'");
            }
        }
        text += if is_broker { "\n" } else { " \\\n                '*:file:_files'\n" };
        text += "            ;;\n";
    }
    text + "    esac\n}\n\n_brooklet \"$@\"\n"
}

fn fish(program: &Program) -> String {
    let all = names(program, " ");
    let mut text = "# Completion of brooklet for fish.\ncomplete -c brooklet -f\n".to_owned();
    for help in &program.subcommands {
        let purpose = inside_quotes(&help.purpose, &['\\']);
        let _ =
            writeln!(text, "complete -c brooklet -n __fish_use_subcommand -a {} -d '{purpose}'", help.name);
        let _ = writeln!(text, "complete -c brooklet -n '__fish_seen_subcommand_from {}' -F", help.name);
    }
    for help in program.subcommands.iter().chain([&program.broker]) {
        let condition = match help.name.as_str() {
            "" => format!("'not __fish_seen_subcommand_from {all}'"),
            name => format!("'__fish_seen_subcommand_from {name}'"),
        };
        for flag in &help.flags {
            let _ = write!(text, "complete -c brooklet -n {condition}");
            for name in flag.names() {
                let kind = if name.starts_with("--") { "-l" } else { "-s" };
                let _ = write!(text, " {kind} {}", name.trim_start_matches('-'));
            }
            text += match flag.takes() {
                Takes::Nothing => "",
                Takes::File => " -r -F",
                Takes::Directory => " -x -a '(__fish_complete_directories)'",
                Takes::Word => " -x",
            };
            let _ = writeln!(text, " -d '{}'", inside_quotes(&flag.help, &['\\']));
        }
    }
    text
}
