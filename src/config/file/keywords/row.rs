//! The types of a row in the table of keywords.

use std::path::PathBuf;

use crate::config::file::pending::Target;
#[cfg(all(feature = "bridge", feature = "system"))]
use crate::settings::Bridge;
use crate::settings::Given;
#[cfg(feature = "system")]
use crate::settings::{Listener, Settings};

#[cfg(feature = "system")]
use super::shown::Value;

/// A keyword.
#[derive(Debug)]
pub struct Keyword {
    /// The keyword; for a family of keywords, the prefix.
    pub name: &'static str,
    /// Its effect.
    pub(in crate::config::file) meaning: Meaning,
    /// How it differs from mosquitto, why it may be ignored, or what is not supported and was expected. Empty if there
    /// is nothing to add.
    pub note: &'static str,
    /// Whether a difference that the note describes concerns a use of the keyword.
    pub(in crate::config::file) concerns: fn(&Use<'_>) -> bool,
}

/// A use of a keyword in a configuration.
#[derive(Clone, Copy, Debug)]
pub(in crate::config::file) struct Use<'a> {
    /// Its value.
    pub value: &'a str,
    /// Whether there is a `listener`, `port` or `bind_address` anywhere.
    pub has_listener: bool,
    /// Whether there is an `allow_anonymous` anywhere.
    pub has_allow_anonymous: bool,
}

impl Use<'_> {
    /// Whether a switch is on.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.first_word(), "true" | "1")
    }

    /// A number; `None` if it is out of range.
    pub(super) fn number(&self) -> Option<i64> {
        self.first_word().parse().ok()
    }

    pub(super) fn first_word(&self) -> &str {
        self.value.split_ascii_whitespace().next().unwrap_or_default()
    }
}

/// The standing of a keyword, compared with mosquitto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has the same effect as in mosquitto.
    Works,
    /// It has the same effect, with a difference that the note describes.
    Differs,
    /// It is accepted and has no effect. The note says why that does no harm.
    Ignored,
    /// It is an error. Ignoring it would weaken security or lose messages.
    NotYet,
}

impl Keyword {
    /// The standing of the keyword.
    pub const fn standing(&self) -> Standing {
        match self.meaning {
            Meaning::Ignored | Meaning::IgnoredOption => Standing::Ignored,
            Meaning::Refused | Meaning::PartOf(_) | Meaning::Family(_) => Standing::NotYet,
            _ if self.note.is_empty() => Standing::Works,
            _ => Standing::Differs,
        }
    }

    /// The default, in the form that the log of a reload has; `None` if the keyword sets no value.
    pub const fn default(&self) -> Option<&'static str> {
        match self.meaning {
            Meaning::Sets(Setting { default, .. }) => Some(*default),
            Meaning::Special(Special::PerListenerSettings) => Some("false"),
            _ => None,
        }
    }

    /// Its value in these settings, or in those of this listener, depending on its scope. The value has the form of the
    /// log of a reload. `None` if the value is not shown under this name, or does not apply.
    #[cfg(feature = "system")]
    pub fn value(&self, settings: &Settings, listener: &Listener) -> Option<String> {
        let Meaning::Sets(setting) = self.meaning else { return None };
        match setting.shown {
            Shown::AtOnce(show) | Shown::AfterRestart(show) => show(settings).text(),
            #[cfg(feature = "cluster")]
            Shown::AtNextConnection(show) => show(settings).text(),
            Shown::ForAll(show) | Shown::ForNewcomers(show) => show(listener).text(),
            #[cfg(feature = "bridge")]
            Shown::OfBridge(_) => None,
            Shown::By(_) | Shown::Never => None,
        }
    }

    /// Its value in the settings of a bridge, as [`Keyword::value`] returns that of other settings.
    #[cfg(all(feature = "bridge", feature = "system"))]
    pub fn value_of_bridge(&self, bridge: &Bridge) -> Option<String> {
        match self.meaning {
            Meaning::Sets(Setting { shown: Shown::OfBridge(show), .. }) => show(bridge).text(),
            _ => None,
        }
    }

    /// The keyword of which it is another name.
    #[cfg(feature = "system")]
    pub const fn alias_of(&self) -> Option<&'static str> {
        match self.meaning {
            Meaning::Sets(Setting { shown: Shown::By(other), .. }) => Some(*other),
            _ => None,
        }
    }
}

/// The effect of a keyword.
#[derive(Debug)]
pub(in crate::config::file) enum Meaning {
    /// It sets a value.
    Sets(&'static Setting),
    /// It changes what the following keywords apply to.
    Special(Special),
    /// It is reported in a warning.
    Ignored,
    /// It is reported in a warning. Like other options of a listener, it adds one if there is none.
    IgnoredOption,
    /// It is an error.
    Refused,
    /// It belongs to another keyword, which is refused.
    PartOf(&'static str),
    /// The prefix of keywords that plugins define. They belong to one of these keywords, which are refused.
    Family(&'static [&'static str]),
}

/// The keywords that change what the following ones apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config::file) enum Special {
    Listener,
    #[cfg(feature = "bridge")]
    Connection,
    Port,
    BindAddress,
    IncludeDirectory,
    PerListenerSettings,
}

/// A keyword that sets a value.
#[derive(Debug)]
pub(in crate::config::file) struct Setting {
    /// The keyword; for another name of a keyword, that keyword.
    pub name: &'static str,
    pub scope: Scope,
    /// The default, in the form that the log of a reload has.
    pub default: &'static str,
    pub form: Form,
    #[cfg(feature = "system")]
    pub shown: Shown,
}

/// What a keyword applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config::file) enum Scope {
    /// The whole broker.
    Global,
    /// The listener before it.
    Listener,
    /// The whole broker, or with `per_listener_settings` the listener before it.
    Security,
    /// The bridge before it.
    #[cfg(feature = "bridge")]
    Bridge,
}

/// The form of a value, and the function that sets it. The error of the function is what was expected.
#[derive(Debug)]
pub(in crate::config::file) enum Form {
    /// The first word, which is true, false, 1 or 0.
    Switch(fn(&mut Target<'_>, bool)),
    /// The first word, which is a number in this range.
    Number(i32, i32, fn(&mut Target<'_>, i64)),
    /// The first word, with what is expected if there is none.
    Word(&'static str, Set),
    /// The first word; the keyword may be repeated.
    WordList(&'static str, Set),
    /// The rest of the line; the keyword may not be repeated.
    Text(&'static str, Set),
    /// The rest of the line, which is the path of this; the keyword may not be repeated.
    Path(Named, fn(&mut Target<'_>, Given<PathBuf>)),
    /// The rest of the line, which is the path of a file after this word, or other words; the keyword may be repeated.
    PathAfter(&'static str, &'static str, Set),
    /// The rest of the line; the keyword may be repeated.
    List(&'static str, Set),
    /// The rest of the line, which may end with a comment; the keyword may not be repeated.
    #[cfg(feature = "bridge")]
    Line(&'static str, Set),
    /// The rest of the line, which may end with a comment; the keyword may be repeated.
    #[cfg(feature = "bridge")]
    Lines(&'static str, Set),
}

type Set = fn(&mut Target<'_>, &str) -> Result<(), &'static str>;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A Unix socket.
    Socket,
}

impl Named {
    /// What is expected if there is no path.
    pub(in crate::config::file) const fn expected(self) -> &'static str {
        match self {
            Self::File => "the path of a file",
            Self::Directory => "the path of a directory",
            Self::Socket => "the path of a socket",
        }
    }
}

/// How to show the value of a keyword, and when a change takes effect after a reload.
#[cfg(feature = "system")]
#[derive(Debug)]
pub(in crate::config::file) enum Shown {
    /// A value of the broker. A change takes effect at once.
    AtOnce(fn(&Settings) -> Value<'_>),
    /// A value of the broker. A change takes effect after a restart.
    AfterRestart(fn(&Settings) -> Value<'_>),
    /// A value of a node of a cluster. A change takes effect with its next connection to a server.
    #[cfg(feature = "cluster")]
    AtNextConnection(fn(&Settings) -> Value<'_>),
    /// A value of a listener. A change takes effect at once, for all its clients.
    ForAll(fn(&Listener) -> Value<'_>),
    /// A value of a listener. A change takes effect for new connections.
    ForNewcomers(fn(&Listener) -> Value<'_>),
    /// A value of a bridge. A change takes effect as its `bridge_reload_type` says.
    #[cfg(feature = "bridge")]
    OfBridge(fn(&Bridge) -> Value<'_>),
    /// Shown under the name of this keyword.
    By(&'static str),
    /// Shown only as part of another value.
    Never,
}

/// Creates a row of the table.
pub(super) const fn row(name: &'static str, meaning: Meaning, note: &'static str) -> Keyword {
    Keyword { name, meaning, note, concerns: |_| true }
}

impl Keyword {
    /// Restricts the note to some uses of the keyword.
    pub(super) const fn when(self, concerns: fn(&Use<'_>) -> bool) -> Self {
        Self { concerns, ..self }
    }

    /// The note concerns only configurations without the keyword, or those in which it is an error.
    pub(super) const fn never(self) -> Self {
        self.when(|_| false)
    }
}

/// Creates the row of a keyword that sets a value: its scope, its default, its form and how to show it. Values are
/// shown only by a broker that can reload its configuration. `is` names the keyword of which it is another name.
macro_rules! setting {
    ($name:literal, $scope:ident, $default:expr, $form:expr, $shown:expr, $note:expr $(,)?) => {
        setting!($name is $name, $scope, $default, $form, $shown, $note)
    };
    ($name:literal is $other:literal, $scope:ident, $default:expr, $form:expr, $shown:expr, $note:expr $(,)?) => {
        row(
            $name,
            Meaning::Sets(&Setting {
                name: $other,
                scope: Scope::$scope,
                default: $default,
                form: $form,
                #[cfg(feature = "system")]
                shown: $shown,
            }),
            $note,
        )
    };
}
pub(super) use setting;

/// The bounds of a range without limits.
pub(super) const ANY: i32 = -0x8000_0000;
pub(super) const ANY_MORE: i32 = 0x7FFF_FFFF;
pub(super) const U16_MAXIMUM: i32 = 65_535;
