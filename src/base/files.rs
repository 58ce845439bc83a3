//! Files that an operator names. They are opened at once or refused. A name may stand for a FIFO or a terminal, which
//! would have to be waited for, so that is checked before it is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The number of the device that is empty and takes everything, by which people say "none".
const NULL: u64 = 0x103;

/// Whether a file can be opened by this name, or made where there is none yet.
///
/// # Errors
///
/// Something else has the name, or the system does not tell.
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

/// Opens a file to read it.
///
/// # Errors
///
/// As [`expect_file`], or it can not be opened.
#[expect(clippy::disallowed_methods, reason = "this room opens files for the others")]
pub fn open(path: &Path) -> io::Result<File> {
    expect_file(path)?;
    File::open(path)
}

/// Reads a file of at most so many bytes; `None` if it has more.
///
/// # Errors
///
/// As [`open`], or it can not be read.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let count = open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((count as u64 <= most).then_some(bytes))
}

/// Opens a file to write at its end, and makes it with this mode if it is not there.
///
/// # Errors
///
/// As [`open`].
pub fn append(path: &Path, mode: u32) -> io::Result<File> {
    expect_file(path)?;
    append_to_any(path, mode)
}

/// The same for a caller that has a thread to wait for the writing, so a FIFO or a terminal is accepted, too.
///
/// # Errors
///
/// It can not be opened.
#[expect(clippy::disallowed_methods, reason = "this room opens files for the others")]
pub fn append_to_any(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    match fs::metadata(path) {
        // Opened for both, it has a reader and need not be waited for.
        Ok(found) if found.file_type().is_fifo() => options.read(true).write(true),
        _ => options.append(true).create(true).mode(mode),
    };
    options.open(path)
}

/// Makes a file of these bytes, in the place of one that was there.
///
/// # Errors
///
/// As [`open`], or it can not be written.
#[expect(clippy::disallowed_methods, reason = "this room opens files for the others")]
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    expect_file(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).open(path)?.write_all(bytes)
}

/// Whether this very name is that of a file, and not of a link to one or of something else.
pub fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn nothing_is_waited_for() {
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
        log.write_all(b"nobody reads it").unwrap();
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
