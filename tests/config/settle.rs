//! Texts as configurations, without files.

use brooklet::config::file::{self, CommandLine, Finding, Step};
use brooklet::settings::Settings;

/// The settings of a configuration on a machine with the name HOSTNAME, and the findings.
pub fn settle(text: &str) -> (Settings, Vec<Finding>) {
    let (statements, mut findings) = file::parse(text.as_bytes(), "a.conf");
    let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
    let given = CommandLine {
        #[cfg(any(feature = "bridge", feature = "cluster"))]
        host_name: Some("HOSTNAME".to_owned()),
        ..CommandLine::default()
    };
    let (settings, more) = file::settle(&steps, &given);
    findings.extend(more);
    (settings, findings)
}
