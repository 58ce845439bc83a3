//! The memory that the process takes in addition to what the broker counts: its own code, and free memory.

use std::fs;

use crate::base::foreign;
use crate::core::limits::Limits;

/// The process itself may take one part in this many off a limit. Of a small limit, most remains for clients and
/// messages.
const PART: usize = 4;

/// Prepares the process for its limits, and returns them without its own share, since a memory limit is for everything
/// resident.
pub(super) fn prepare(limits: &Limits) -> Limits {
    if limits.memory.is_some() {
        foreign::return_large_blocks();
    }
    without_process(limits)
}

fn without_process(limits: &Limits) -> Limits {
    let process = code().unwrap_or_default();
    let memory = limits.memory.map(|limit| limit - process.min(limit / PART));
    Limits { memory, ..limits.clone() }
}

/// Bytes of code in the binary and its libraries; `None` where the system does not report it.
fn code() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let size = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    };
    Some((size("VmExe:")? + size("VmLib:")?) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_its_share_of_a_limit() {
        let limited = |memory| without_process(&Limits { memory, ..Limits::default() }).memory;
        assert_eq!(limited(None), None);
        assert_eq!(limited(Some(400_000)), Some(300_000));
        let left = limited(Some(1 << 31)).unwrap();
        assert!((1 << 20..1 << 29).contains(&((1 << 31) - left)), "{left}");
    }
}
