//! What a row of the table of keywords is made of.

use crate::config::file::pending::Target;
#[cfg(feature = "system")]
use crate::settings::{Listener, Settings};

#[cfg(feature = "system")]
use super::shown::Value;

/// One keyword.
#[derive(Debug)]
pub struct Keyword {
    /// As it is written; the beginning of a family of keywords.
    pub name: &'static str,
    /// What becomes of it.
    pub(in crate::config::file) meaning: Meaning,
    /// How it differs from mosquitto, why it may be ignored, or what is refused and was expected; empty where there
    /// is nothing to say.
    pub note: &'static str,
}

/// What a keyword's standing is, in the eyes of somebody who comes from mosquitto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does what it does there.
    Works,
    /// It does so with a difference, which the note tells.
    Differs,
    /// It is read and has no effect; the note tells why that does no harm.
    Ignored,
    /// It is an error: to go on without would weaken security or lose messages.
    NotYet,
}

impl Keyword {
    /// Where it stands.
    pub const fn standing(&self) -> Standing {
        match self.meaning {
            Meaning::Ignored => Standing::Ignored,
            Meaning::Refused | Meaning::PartOf(_) | Meaning::Family(_) => Standing::NotYet,
            _ if self.note.is_empty() => Standing::Works,
            _ => Standing::Differs,
        }
    }

    /// What holds where it is not said, as a reload would tell it; `None` of what sets nothing.
    pub const fn default(&self) -> Option<&'static str> {
        match self.meaning {
            Meaning::Sets(Setting { default, .. }) => Some(*default),
            Meaning::Special(Special::PerListenerSettings) => Some("false"),
            _ => None,
        }
    }

    /// What settings say of it, in the words of a reload: the whole broker's or those of this listener, whichever it is
    /// said of. `None` of what they do not tell by its name, or not for now.
    #[cfg(feature = "system")]
    pub fn value(&self, settings: &Settings, listener: &Listener) -> Option<String> {
        let Meaning::Sets(setting) = self.meaning else { return None };
        match setting.shown {
            Shown::AtOnce(show) | Shown::AfterRestart(show) => show(settings).text(),
            Shown::ForAll(show) | Shown::ForNewcomers(show) => show(listener).text(),
            Shown::By(_) | Shown::Never => None,
        }
    }

    /// The other keyword that it is another name for.
    #[cfg(feature = "system")]
    pub const fn told_by(&self) -> Option<&'static str> {
        match self.meaning {
            Meaning::Sets(Setting { shown: Shown::By(other), .. }) => Some(*other),
            _ => None,
        }
    }
}

/// What becomes of a keyword.
#[derive(Debug)]
pub(in crate::config::file) enum Meaning {
    /// It sets something.
    Sets(&'static Setting),
    /// It changes what the others are about.
    Special(Special),
    /// It is named in a warning.
    Ignored,
    /// It is an error.
    Refused,
    /// It belongs to another keyword, which is an error already.
    PartOf(&'static str),
    /// The beginning of names that somebody else has chosen; they belong to one of these keywords.
    Family(&'static [&'static str]),
}

/// Keywords that change what the others are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config::file) enum Special {
    Listener,
    Port,
    BindAddress,
    IncludeDirectory,
    PerListenerSettings,
}

/// A keyword that sets something.
#[derive(Debug)]
pub(in crate::config::file) struct Setting {
    pub scope: Scope,
    /// What holds where it is not said, as a reload would tell it.
    pub default: &'static str,
    pub form: Form,
    #[cfg(feature = "system")]
    pub shown: Shown,
}

/// What a keyword is said of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config::file) enum Scope {
    /// The whole broker.
    Global,
    /// The listener in front of it.
    Listener,
    /// The whole broker, or the listener in front of it with `per_listener_settings`.
    Security,
}

/// What a keyword may be given, and where it goes. A setter's error says what was expected.
#[derive(Debug)]
pub(in crate::config::file) enum Form {
    /// The first word: true or false, 1 or 0.
    Switch(fn(&mut Target<'_>, bool)),
    /// The first word: a number from here to there.
    Number(i32, i32, fn(&mut Target<'_>, i64)),
    /// The first word; what was expected where there is none.
    Word(&'static str, Set),
    /// The first word, as often as one likes.
    WordList(&'static str, Set),
    /// The rest of the line, once.
    Text(&'static str, Set),
    /// The rest of the line, as often as one likes.
    List(&'static str, Set),
}

type Set = fn(&mut Target<'_>, &str) -> Result<(), &'static str>;

/// Where it is seen what a keyword has set, and from when on that is in force after a reload.
#[cfg(feature = "system")]
#[derive(Debug)]
pub(in crate::config::file) enum Shown {
    /// In the settings of the broker; at once.
    AtOnce(fn(&Settings) -> Value<'_>),
    /// In the settings of the broker; after a restart.
    AfterRestart(fn(&Settings) -> Value<'_>),
    /// In those of a listener; at once for all who came in by it.
    ForAll(fn(&Listener) -> Value<'_>),
    /// In those of a listener; for those who connect from now on.
    ForNewcomers(fn(&Listener) -> Value<'_>),
    /// Under the name of this keyword.
    By(&'static str),
    /// Only in what it is a part of.
    Never,
}

/// A row of the table.
pub(super) const fn row(name: &'static str, meaning: Meaning, note: &'static str) -> Keyword {
    Keyword { name, meaning, note }
}

/// The row of a keyword that sets something: what it is said of, its default, what it may be given and where that goes,
/// and where it is seen. Only a broker that reads its configuration anew has to show anything.
macro_rules! setting {
    ($name:expr, $scope:ident, $default:expr, $form:expr, $shown:expr, $note:expr $(,)?) => {
        row(
            $name,
            Meaning::Sets(&Setting {
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

/// For numbers of which every one is taken.
pub(super) const ANY: i32 = -0x8000_0000;
pub(super) const ANY_MORE: i32 = 0x7FFF_FFFF;
pub(super) const U16_MAXIMUM: i32 = 65_535;
