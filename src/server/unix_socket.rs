//! The file of a Unix socket: who may connect, and which broker it belongs to.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use log::{info, warn};
use mio::net::{UnixListener, UnixStream};

use crate::settings::SocketFile;

use super::privileges::group_number;

/// The end of the name of a socket that is not ready.
const INTERIM: &[u8] = b".new";

/// The file of a socket that this broker has bound. It is removed when this is dropped, unless another broker has
/// replaced it.
#[derive(Debug)]
pub(super) struct OwnFile {
    path: PathBuf,
    /// The numbers of the file system and of the file in it. While the socket is open, no other file gets them.
    identity: (u64, u64),
}

impl OwnFile {
    fn of(path: &Path, interim: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(interim)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }

    /// Gives the file to the user that the broker switches to, and to its group unless another one was configured.
    pub(super) fn give_to(&self, user: u32, group: u32, configured: &SocketFile) {
        let group = configured.group.is_none().then_some(group);
        if self.is_there()
            && let Err(why) = lchown(&self.path, Some(user), group)
        {
            warn!("Unable to change the owner of {}: {why}.", self.path.display());
        }
    }

    /// Applies other permissions and another group.
    #[cfg(feature = "system")]
    pub(super) fn change(&self, from: &SocketFile, to: &SocketFile) -> io::Result<()> {
        if from == to || !self.is_there() {
            return Ok(());
        }
        if from.group.is_some() && to.group.is_none() {
            lchown(&self.path, None, Some(nix::unistd::getegid().as_raw()))?;
        }
        protect(&self.path, to)
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if self.is_there() {
            // If that fails, the next start finds that nothing answers there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn protect(path: &Path, configured: &SocketFile) -> io::Result<()> {
    if let Some(group) = &configured.group {
        let number = group_number(group).map_err(io::Error::other)?;
        lchown(path, None, Some(number)).map_err(|why| {
            let advice = "only root or a member of the group can set it";
            io::Error::other(format!("socket_group {}: {why}; {advice}", &**group))
        })?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(configured.mode))
}

/// Binds a Unix socket. A socket left by a broker that is gone is replaced, one that answers is not. It appears under
/// its name only once its permissions and its group are right.
pub(super) fn bind_unix(path: &Path, configured: &SocketFile) -> io::Result<(OwnFile, UnixListener)> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::other("there is a file of this name that is not a socket"));
        }
        Ok(_) if is_answered(path)? => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let interim = interim_of(path);
    if let Err(error) = fs::remove_file(&interim)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let socket = UnixListener::bind(&interim)?;
    let outcome = protect(&interim, configured)
        .and_then(|()| OwnFile::of(path, &interim))
        .and_then(|file| fs::rename(&interim, path).map(|()| file));
    match outcome {
        Ok(file) => {
            info!("Opening unix listen socket on path {}.", path.display());
            Ok((file, socket))
        }
        Err(error) => {
            // The file is useless without its socket.
            let _ = fs::remove_file(&interim);
            Err(error)
        }
    }
}

/// The path of a socket until it is ready, in the same directory. It is no longer than the system allows if `path` is not.
fn interim_of(path: &Path) -> PathBuf {
    /// The most bytes of the path of a Unix socket.
    const PATH_MAXIMUM: usize = 107;
    let mut name = path.as_os_str().as_bytes().to_vec();
    if name.len() + INTERIM.len() <= PATH_MAXIMUM {
        name.extend(INTERIM);
    } else if let Some(last) = name.last_mut() {
        *last = if *last == b'~' { b'_' } else { b'~' };
    }
    OsString::from_vec(name).into()
}

/// Whether something listens at a Unix socket. It does not block: a full backlog counts as an answer.
fn is_answered(path: &Path) -> io::Result<bool> {
    use io::ErrorKind::{ConnectionRefused, NotFound, WouldBlock};
    match UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            WouldBlock => Ok(true),
            ConnectionRefused | NotFound => Ok(false),
            // Such as the socket of another user.
            _ => Err(io::Error::other(format!(
                "it is not known whether another broker answers there ({error}); remove the file if none does"
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener as Other;

    /// A directory that is removed when it is dropped.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("brooklet-unix-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> PathBuf {
            self.0.join("mqtt.sock")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn bind(path: &Path) -> io::Result<(OwnFile, UnixListener)> {
        bind_unix(path, &SocketFile::default())
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// The listener accepts no connection, and its backlog is full.
    #[test]
    #[cfg(feature = "system")]
    fn a_socket_at_which_many_wait_is_not_waited_for() {
        use socket2::{Domain, SockAddr, Socket, Type};
        let directory = Directory::new("backlog");
        let path = directory.path();
        let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        busy.listen(1).unwrap();
        let connect = || UnixStream::connect(&path);
        let waiting: Vec<_> = std::iter::repeat_with(connect).map_while(Result::ok).take(1000).collect();
        assert!(!waiting.is_empty() && waiting.len() < 1000, "{} wait", waiting.len());
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_is_replaced_once_nothing_answers_there() {
        let directory = Directory::new("left");
        let path = directory.path();
        drop(Other::bind(&path).unwrap());
        let bound = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists(), "it goes with its broker");
        fs::File::create(&path).unwrap();
        assert!(bind(&path).is_err(), "no file is overwritten");
    }

    #[test]
    fn a_path_may_be_as_long_as_the_system_allows() {
        let directory = Directory::new("long");
        let room = 107 - directory.0.as_os_str().len() - 1;
        for name in ["s".repeat(room), "~".repeat(room - 2), "s".repeat(room - 4)] {
            let path = directory.0.join(name);
            let bound = bind(&path).unwrap();
            assert!(UnixStream::connect(&path).is_ok());
            assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
            drop(bound);
        }
        assert!(bind(&directory.0.join("s".repeat(room + 1))).is_err());
    }

    /// Something that is no stream socket may be in use.
    #[test]
    fn a_socket_that_cannot_be_asked_is_not_replaced() {
        let directory = Directory::new("datagram");
        let path = directory.path();
        let _other = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let error = bind(&path).unwrap_err().to_string();
        assert!(error.starts_with("it is not known whether another broker answers there"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn the_socket_of_another_broker_is_not_removed() {
        let directory = Directory::new("other");
        let path = directory.path();
        let first = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(&path).unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn the_operator_sets_the_permissions() {
        let directory = Directory::new("mode");
        let path = directory.path();
        assert_eq!(bind(&path).map(|_bound| mode(&path)).unwrap(), 0o770);
        let of_all = SocketFile { mode: 0o666, group: None };
        let (file, _socket) = bind_unix(&path, &of_all).unwrap();
        assert_eq!(mode(&path), 0o666);
        let group = fs::symlink_metadata(&path).unwrap().gid();
        let narrow = SocketFile { mode: 0o600, group: Some(group.to_string().into_boxed_str().into()) };
        #[cfg(feature = "system")]
        file.change(&of_all, &narrow).unwrap();
        #[cfg(feature = "system")]
        assert_eq!(mode(&path), 0o600);
        drop(file);
        let unknown =
            SocketFile { group: Some("no such group".to_owned().into_boxed_str().into()), ..narrow };
        let error = bind_unix(&path, &unknown).unwrap_err().to_string();
        assert!(error.contains("there is no group 'no such group'"), "{error}");
        assert!(fs::read_dir(&directory.0).unwrap().next().is_none(), "nothing stays there");
    }
}
