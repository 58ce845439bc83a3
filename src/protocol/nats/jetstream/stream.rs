//! Streams: how they are configured, and what they hold.

use super::{ApiFault, ApiRequest, MISSING, Name, answer, duration, nanoseconds, number, text};
use crate::base::json::{Value, object};
use crate::base::time::Duration;
use crate::protocol::nats::{Headers, Message, number as number_of};

/// The configuration of a stream in files, which keeps messages until a limit is reached and then drops the oldest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Its name.
    pub name: Box<str>,
    /// The subjects whose messages it keeps, which may have wildcards.
    pub subjects: Vec<Box<str>>,
    /// On how many servers.
    pub replicas: u64,
    /// How long a message is kept; zero for ever.
    pub age_maximum: Duration,
    /// The most bytes that are kept.
    pub bytes_maximum: Option<u64>,
    /// The most messages of one subject that are kept.
    pub per_subject_maximum: Option<u64>,
    /// How long identifiers of messages are remembered.
    pub duplicate_window: Duration,
    /// Other streams whose messages it takes over.
    pub sources: Vec<Source>,
    /// Whether each replica answers direct requests.
    pub allows_direct: bool,
    /// Whether a batch of messages can be stored as a whole.
    pub allows_atomic: bool,
    /// Whether it takes batches that are acknowledged together.
    pub allows_batched: bool,
    /// Whether a message may have a time to live.
    pub allows_ttl: bool,
    /// Whether a message may replace all earlier ones of its subject.
    pub allows_rollup: bool,
}

/// A part of another stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the stream.
    pub stream: Box<str>,
    /// The subjects whose messages are taken over.
    pub filter: Box<str>,
}

impl StreamConfig {
    fn to_json(&self) -> Value {
        let limit = |limit: Option<u64>| limit.map_or(Value::from(-1), Value::from);
        let texts = |texts: &[Box<str>]| Value::Array(texts.iter().map(|text| (**text).into()).collect());
        let source = |source: &Source| {
            object([("name", (*source.stream).into()), ("filter_subject", (*source.filter).into())])
        };
        let sources = match self.sources.is_empty() {
            true => Value::Null,
            false => Value::Array(self.sources.iter().map(source).collect()),
        };
        object([
            ("name", (*self.name).into()),
            ("subjects", texts(&self.subjects)),
            ("retention", "limits".into()),
            ("discard", "old".into()),
            ("storage", "file".into()),
            ("num_replicas", self.replicas.into()),
            ("max_age", nanoseconds(self.age_maximum)),
            ("max_bytes", limit(self.bytes_maximum)),
            ("max_msgs_per_subject", limit(self.per_subject_maximum)),
            ("duplicate_window", nanoseconds(self.duplicate_window)),
            ("sources", sources),
            ("allow_direct", self.allows_direct.into()),
            ("allow_atomic", self.allows_atomic.into()),
            ("allow_batched", self.allows_batched.into()),
            ("allow_msg_ttl", self.allows_ttl.into()),
            ("allow_rollup_hdrs", self.allows_rollup.into()),
        ])
    }

    fn from_json(value: &Value) -> Result<Self, ApiFault> {
        let list = |name: &str| value[name].as_array().map_or(&[][..], Vec::as_slice);
        let is_set = |name: &str| value[name] == Value::Bool(true);
        let limit = |name: &str| value[name].as_u64();
        let source = |source: &Value| {
            let filter = source["filter_subject"].as_str().unwrap_or_default().into();
            Ok(Source { stream: text(source, "name")?, filter })
        };
        Ok(Self {
            name: text(value, "name")?,
            subjects: list("subjects").iter().filter_map(Value::as_str).map(Into::into).collect(),
            replicas: number(value, "num_replicas")?,
            age_maximum: duration(&value["max_age"]),
            bytes_maximum: limit("max_bytes"),
            per_subject_maximum: limit("max_msgs_per_subject"),
            duplicate_window: duration(&value["duplicate_window"]),
            sources: list("sources").iter().map(source).collect::<Result<_, ApiFault>>()?,
            allows_direct: is_set("allow_direct"),
            allows_atomic: is_set("allow_atomic"),
            allows_batched: is_set("allow_batched"),
            allows_ttl: is_set("allow_msg_ttl"),
            allows_rollup: is_set("allow_rollup_hdrs"),
        })
    }

    /// What is different in another configuration, as the server names it.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = [
            ("subjects", self.subjects == other.subjects),
            ("num_replicas", self.replicas == other.replicas),
            ("max_age", self.age_maximum == other.age_maximum),
            ("max_bytes", self.bytes_maximum == other.bytes_maximum),
            ("max_msgs_per_subject", self.per_subject_maximum == other.per_subject_maximum),
            ("duplicate_window", self.duplicate_window == other.duplicate_window),
            ("sources", self.sources == other.sources),
            ("allow_direct", self.allows_direct == other.allows_direct),
            ("allow_atomic", self.allows_atomic == other.allows_atomic),
            ("allow_batched", self.allows_batched == other.allows_batched),
            ("allow_msg_ttl", self.allows_ttl == other.allows_ttl),
            ("allow_rollup_hdrs", self.allows_rollup == other.allows_rollup),
        ];
        pairs.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }
}

/// A stream as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// How it is configured.
    pub config: StreamConfig,
    /// Whether it keeps messages until a limit is reached and drops the oldest then, in files.
    pub is_of_our_kind: bool,
    /// The number of its messages.
    pub messages: u64,
    /// Their size in bytes, with what the server stores for each.
    pub bytes: u64,
    /// The sequence of its first message, or of the next one if it has none.
    pub first_sequence: u64,
    /// The sequence of the last message that it has ever had; zero if it has had none.
    pub last_sequence: u64,
    /// The time of the server, in nanoseconds since 1970, if it tells it.
    pub time: Option<u64>,
    /// Whether it has a leader, as far as the answering server knows.
    pub has_leader: bool,
}

impl StreamInfo {
    /// Parses the answer to [`stream_info`], [`stream_create`] and [`stream_update`].
    ///
    /// # Errors
    ///
    /// The request was refused, or the answer is malformed.
    pub fn parse(payload: &[u8]) -> Result<Self, ApiFault> {
        let value = answer(payload)?;
        let (config, state) = (&value["config"], &value["state"]);
        if !state.is_object() {
            return Err(MISSING);
        }
        let is = |name: &str, expected: &str| config[name] == expected;
        Ok(Self {
            config: StreamConfig::from_json(config)?,
            is_of_our_kind: is("retention", "limits") && is("discard", "old") && is("storage", "file"),
            messages: number(state, "messages")?,
            bytes: number(state, "bytes")?,
            first_sequence: number(state, "first_seq")?,
            last_sequence: number(state, "last_seq")?,
            time: value["ts"].as_str().and_then(time),
            has_leader: value["cluster"]["leader"].is_string(),
        })
    }
}

/// The sequence that a message has in the stream from which another one has taken it over.
pub fn source_sequence(message: &Message<'_>) -> Option<u64> {
    let headers = Headers::parse(message.headers?).ok()?;
    let words = headers.last_value("Nats-Stream-Source")?;
    number_of(words.split(|byte| *byte == b' ').nth(1)?)
}

/// Reads a time such as `2026-01-31T23:59:59.5Z`, as nanoseconds since 1970.
fn time(text: &str) -> Option<u64> {
    const DAYS_BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let (seconds, fraction) =
        text.strip_suffix('Z')?.split_once('.').unwrap_or((text.strip_suffix('Z')?, ""));
    let (date, clock) = seconds.split_once('T')?;
    let numbers = |text: &str, separator| -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text.split(separator).map(|part| number_of(part.as_bytes())).collect();
        parts?.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(clock, ':')?);
    if !(1970..2500).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let before = *DAYS_BEFORE.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    // Leap days up to the end of the year before, and that of this year once February is over.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + day - 1
        + u64::from(is_leap && month > 2);
    let digits = fraction.get(..fraction.len().min(9))?;
    let nanoseconds = match digits {
        "" => 0,
        digits => number_of(format!("{digits:0<9}").as_bytes())?,
    };
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000_000 + nanoseconds)
}

/// Asks for the configuration and the state of a stream.
pub fn stream_info(name: Name<'_>) -> ApiRequest {
    ApiRequest::new(format_args!("STREAM.INFO.{name}"), String::new())
}

/// Makes a stream. It is an error if there is one with this name and another configuration.
pub fn stream_create(name: Name<'_>, config: &StreamConfig) -> ApiRequest {
    ApiRequest::new(format_args!("STREAM.CREATE.{name}"), config.to_json().to_string())
}

/// Changes a stream.
pub fn stream_update(name: Name<'_>, config: &StreamConfig) -> ApiRequest {
    ApiRequest::new(format_args!("STREAM.UPDATE.{name}"), config.to_json().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let seconds = 1_000_000_000;
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600 * seconds + 500_000_000)),
            ("2000-03-01T00:00:00Z", Some(951_868_800 * seconds)),
            ("2026-12-01T03:59:09.658649676Z", Some(1_796_097_549 * seconds + 658_649_676)),
            ("2100-03-01T00:00:00.000000001999Z", Some(4_107_542_400 * seconds + 1)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-12-01T24:00:00Z", None),
            ("2026-12-01T00:00:00", None),
            ("2026-12-01T00:00:00.xZ", None),
            ("2026-12-01 00:00:00Z", None),
            ("T.Z", None),
            ("", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
