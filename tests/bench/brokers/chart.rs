//! The results as a chart: for each scenario a group of bars, one for each broker. Each group has its own scale; rows
//! that differ only in a quantity share one, so that growth can be seen.

use std::fmt::Write as _;

use crate::report::{Report, digits};
use crate::scenarios::Kind;

const WIDTH: usize = 860;
const LABELS_WIDTH: usize = 330;
const BARS_WIDTH: f64 = 410.0;
const BAR_HEIGHT: usize = 12;
const GROUP_GAP: usize = 10;
const HEAD_HEIGHT: usize = 54;

/// Readable on white and on black.
const COLOURS: [&str; 6] = ["#e8590c", "#868e96", "#1c7ed6", "#2f9e44", "#9c36b5", "#c2255c"];

const STYLE: &str = "text{font:12px sans-serif;fill:#333}.t{font-size:14px;font-weight:bold}\
@media(prefers-color-scheme:dark){text{fill:#ddd}}";

/// The processor time of each scenario as an SVG document.
pub fn svg(report: &Report) -> String {
    let mut body = String::new();
    legend(&mut body, report);
    let mut top = HEAD_HEIGHT;
    for row in report.rows.iter().filter(|row| row.kind == Kind::Processor) {
        let bars: Vec<(usize, f64)> = (0..report.brokers.len())
            .filter_map(|broker| Some((broker, *row.medians(broker)?.first()?)))
            .collect();
        let longest = longest_of_series(report, &row.name);
        let height = bars.len() * BAR_HEIGHT;
        let middle = top + height / 2 + 4;
        let x = LABELS_WIDTH - 8;
        let _ = writeln!(body, r#"<text x="{x}" y="{middle}" text-anchor="end">{}</text>"#, label(&row.name));
        for (broker, value) in bars {
            let length = (value / longest * BARS_WIDTH).max(1.0);
            let (height, y) = (BAR_HEIGHT - 2, top + BAR_HEIGHT - 3);
            let end = LABELS_WIDTH as f64 + length + 5.0;
            let colour = COLOURS[broker % COLOURS.len()];
            let _ = writeln!(
                body,
                r#"<rect x="{LABELS_WIDTH}" y="{top}" width="{length:.1}" height="{height}" fill="{colour}"/>"#
            );
            let _ = writeln!(body, r#"<text x="{end:.1}" y="{y}">{}</text>"#, digits(value));
            top += BAR_HEIGHT;
        }
        top += GROUP_GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" \
         height=\"{top}\" role=\"img\">\n<title>Brokers compared</title>\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// The longest bar of the rows that differ from this one in the number of connections or subscriptions; other rows
/// stand alone.
fn longest_of_series(report: &Report, name: &str) -> f64 {
    let series = |name: &str| {
        let is_growth = name.ends_with(" connections") || name.ends_with(" subscriptions");
        if is_growth {
            name.replace(|digit: char| digit.is_ascii_digit() || digit == ',', "")
        } else {
            name.to_owned()
        }
    };
    let rows =
        report.rows.iter().filter(|row| row.kind == Kind::Processor && series(&row.name) == series(name));
    let values = rows
        .flat_map(|row| (0..report.brokers.len()).filter_map(|broker| row.medians(broker)?.first().copied()));
    values.fold(f64::MIN_POSITIVE, f64::max)
}

fn legend(body: &mut String, report: &Report) {
    let title =
        "CPU µs of the broker for each message, less is better; each group or series has its own scale";
    let _ = writeln!(body, r#"<text class="t" x="10" y="20">{title}</text>"#);
    let mut x = 10;
    for (broker, name) in report.brokers.iter().enumerate() {
        let colour = COLOURS[broker % COLOURS.len()];
        let _ = writeln!(body, r#"<rect x="{x}" y="32" width="10" height="10" fill="{colour}"/>"#);
        let _ = writeln!(body, r#"<text x="{}" y="41">{}</text>"#, x + 15, escaped(name));
        x += 40 + 8 * name.chars().count();
    }
}

/// The name of a row, without the unit that the title states.
fn label(name: &str) -> String {
    let name = name.replace(", broker CPU µs per message", "").replace(", CPU µs", "");
    escaped(&name.replace(": CPU µs a cycle", ""))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
