//! The functions that the binary and the C library call in each other by name. These are the only lines that the
//! compiler cannot check.
//!
//! `tests/tidy.rs` checks that there are no others.
#![allow(unsafe_code)]

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// Returns free memory to the system, except `pad` bytes at the top of the heap. It may be called at any time.
    safe fn malloc_trim(pad: usize) -> i32;

    /// Sets a parameter of the allocator. It may be called at any time, since each parameter is one number, which
    /// `free` changes without a lock as well.
    safe fn mallopt(parameter: i32, value: i32) -> i32;
}

/// Makes the allocator return all free memory to the system. Does nothing with an allocator that does so by itself.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    malloc_trim(0);
}

/// Makes the allocator return each large block to the system as soon as it is freed. Otherwise the first large block that
/// is freed makes glibc keep free memory for others of its size, in a separate place for each thread, so that messages of
/// a MiB took half as much memory again as was in use. Each large block then costs a system call and new pages: a message
/// of a MiB takes about 1 ms of processor time more. Other allocators do so by themselves.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        const MMAP_THRESHOLD: i32 = -3;
        /// What glibc starts with. To set it makes it stay.
        const LARGE: i32 = 128 * 1024;
        mallopt(MMAP_THRESHOLD, LARGE);
    }
}

/// Replaces the function that walks the stack by one that finds no frames, and returns that the end of the stack is
/// reached. So a panic reports only its message and its line. The code in the standard library that reads debug
/// information, a sixth of the smallest binary, is then not linked. The debug information itself is stripped from a
/// release anyway. With musl, the unwinder is linked into the binary, and has the function already; so it is with Zig as
/// the linker, of which `packages/build` tells.
#[cfg(not(any(debug_assertions, target_env = "musl", unwinder_is_linked)))]
#[unsafe(no_mangle)]
const extern "C" fn _Unwind_Backtrace(_each: *const (), _argument: *const ()) -> i32 {
    const END_OF_STACK: i32 = 5;
    END_OF_STACK
}
