//! What the binary and the C library know of each other by name: the only lines that the compiler can not check.
//!
//! `tests/tidy.rs` sees to it that no others come to be.
#![allow(unsafe_code)]

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// Gives free memory back to the system, but for `pad` bytes at the end of the heap. It can be called at any time.
    safe fn malloc_trim(pad: usize) -> i32;
}

/// Has the allocator give back all memory that is free, where there is one that has to be told.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    malloc_trim(0);
}

/// Takes the place of what walks the stack, and finds nothing on it. So a panic tells its message and its line alone,
/// and the reader of debug information in the standard library, a sixth of the smallest binary, is not linked: what a
/// release would read is stripped anyway. It tells that it has come to the end.
#[cfg(not(debug_assertions))]
#[unsafe(no_mangle)]
const extern "C" fn _Unwind_Backtrace(_each: *const (), _argument: *const ()) -> i32 {
    const END_OF_STACK: i32 = 5;
    END_OF_STACK
}
