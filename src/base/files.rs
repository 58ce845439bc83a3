//! Access to files that an operator names. Opening a FIFO or a terminal may block, so a name that stands for one is
//! refused before it is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The device number of `/dev/null`, which people use for "no file".
const NULL: u64 = 0x103;

/// A relative path is below the directory that the program was started in. If that is unknown, it stays as it is.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Checks that the path names a file, or nothing yet.
///
/// # Errors
///
/// The path names something else, or its metadata cannot be read.
pub fn expect_file(path: &Path) -> io::Result<()> {
    let found = match fs::metadata(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let kind = found.file_type();
    let what = match () {
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() && found.rdev() != NULL => "a device",
        () => return Ok(()),
    };
    Err(io::Error::other(format!("it is {what}, expected a file")))
}

/// Opens a file for reading.
///
/// # Errors
///
/// Those of [`expect_file`], or the file cannot be opened.
#[expect(clippy::disallowed_methods, reason = "this room opens files for the others")]
pub fn open(path: &Path) -> io::Result<File> {
    expect_file(path)?;
    File::open(path)
}

/// Reads a file of at most `most` bytes; `None` if it has more.
///
/// # Errors
///
/// Those of [`open`], or the file cannot be read.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let count = open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((count as u64 <= most).then_some(bytes))
}

/// Opens a file for appending. Creates it with this mode if it does not exist.
///
/// # Errors
///
/// Those of [`open`].
pub fn append(path: &Path, mode: u32) -> io::Result<File> {
    expect_file(path)?;
    append_to_any(path, mode)
}

/// Opens a file as [`append`] does, but also accepts a FIFO or a terminal. For a caller that writes in a separate
/// thread, which may block.
///
/// # Errors
///
/// It cannot be opened.
#[expect(clippy::disallowed_methods, reason = "this room opens files for the others")]
pub fn append_to_any(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    match fs::metadata(path) {
        // Opened for reading and writing, a FIFO has a reader, so this does not block.
        Ok(found) if found.file_type().is_fifo() => options.read(true).write(true),
        _ => options.append(true).create(true).mode(mode),
    };
    options.open(path)
}

/// Writes a file with these bytes, replacing the content of an existing one.
///
/// # Errors
///
/// Those of [`open`], or the file cannot be written.
#[expect(clippy::disallowed_methods, reason = "this room opens files for the others")]
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    expect_file(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).open(path)?.write_all(bytes)
}

/// Whether the path itself names a file, and not a link or something else.
pub fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn opening_never_blocks() {
        let directory = std::env::temp_dir().join(format!("brooklet-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let fifo = directory.join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let link = directory.join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        for path in [&fifo, &link] {
            let errors = [
                open(path).map(drop),
                read(path, 1).map(drop),
                append(path, 0o600).map(drop),
                write(path, b"x"),
            ];
            for error in errors {
                assert_eq!(error.unwrap_err().to_string(), "it is a FIFO, expected a file");
            }
        }
        let mut log = append_to_any(&link, 0o600).unwrap();
        log.write_all(b"not read").unwrap();
        assert_eq!(open(Path::new("/dev/zero")).unwrap_err().to_string(), "it is a device, expected a file");
        assert_eq!(read(Path::new("/dev/null"), 1).unwrap(), Some(Vec::new()));
        write(Path::new("/dev/null"), b"x").unwrap();
        let path = directory.join("file");
        assert_eq!(read(&path, 1).unwrap_err().kind(), ErrorKind::NotFound);
        write(&path, b"one two").unwrap();
        write(&path, b"one").unwrap();
        append(&path, 0o600).unwrap().write_all(b"4").unwrap();
        assert_eq!([read(&path, 3).unwrap(), read(&path, 4).unwrap()], [None, Some(b"one4".to_vec())]);
        assert_eq!([&path, &link, &fifo, &directory].map(|path| is_file(path)), [true, false, false, false]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
