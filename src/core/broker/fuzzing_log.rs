//! A log for the bodies of the fuzz targets: it keeps the lines of one thread at a time, at the level that this thread
//! wants, and has no effect on the others.

use std::cell::{Cell, RefCell};

use log::{LevelFilter, Log, Metadata, Record};

struct Ear;

thread_local! {
    static LEVEL: Cell<LevelFilter> = const { Cell::new(LevelFilter::Off) };
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl Log for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LEVEL.get()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // Lines of all levels are formatted; only those that are always written are kept.
            let line = record.args().to_string();
            if record.level() <= LevelFilter::Info {
                LINES.with_borrow_mut(|lines| lines.push(line));
            }
        }
    }

    fn flush(&self) {}
}

/// Runs a closure in this thread with the log at a level. Also returns the lines of [`LevelFilter::Info`] and above.
pub(super) fn listening<R>(level: LevelFilter, run: impl FnOnce() -> R) -> (R, Vec<String>) {
    static ALL: LevelFilter = LevelFilter::Debug;
    // It is already set, if this is not the first call.
    let _ = log::set_logger(&Ear);
    log::set_max_level(ALL);
    LEVEL.set(level);
    let outcome = run();
    assert!(level < ALL || log::log_enabled!(log::Level::Debug), "there is no other logger");
    LEVEL.set(LevelFilter::Off);
    (outcome, LINES.take())
}
