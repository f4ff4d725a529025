//! The files that a policy was read from, and the watch for changes of them.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use openssl::sha::sha256;

use super::memory_limit;
use crate::text::hex;

/// The largest number of files that a [`FileWatch`] checks, including the document. A check takes a
/// few microseconds for each file, and requests of the worker wait meanwhile.
pub const MAX_WATCHED: usize = 1000;

/// Most entries of a directory that are listed.
pub const MAX_LISTED: usize = 1000;

/// The beginning of a listing among the contents of files.
const LISTING: &[u8] = b"resty-mtls directory\0";

/// Whether the content of a file is a listing of [`Files::list`].
pub(super) fn is_listing(content: &[u8]) -> bool {
    content.starts_with(LISTING)
}

/// The path that stands for a list of paths. No file has such a path, since it has a NUL.
pub fn join_list<'p>(paths: impl IntoIterator<Item = &'p Path>) -> PathBuf {
    let paths: Vec<_> = paths
        .into_iter()
        .map(|path| path.as_os_str().as_bytes())
        .collect();
    PathBuf::from(OsStr::from_bytes(&paths.join(&0)))
}

/// The paths of a list; `None` for the path of one file.
pub fn split_list(path: &Path) -> Option<Vec<PathBuf>> {
    let bytes = path.as_os_str().as_bytes();
    let is_list = bytes.contains(&0);
    let paths = bytes.split(|byte| *byte == 0);
    is_list.then(|| {
        paths
            .map(|path| PathBuf::from(OsStr::from_bytes(path)))
            .collect()
    })
}

/// The file in the state directory for the bundle that is fetched from a URL.
pub fn bundle_file(directory: &Path, url: &str) -> PathBuf {
    let digest = hex(&sha256(url.as_bytes()));
    let name = digest.get(..16).unwrap_or_default();
    directory.join(format!("bundle-{name}.json"))
}

/// What `stat` returns for a file, to detect a change without reading it. Symbolic links are
/// followed. The time of change is included because, unlike the time of modification, it cannot be
/// set back, as `cp -p` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` when `stat` fails, whatever the reason.
    pub(super) fn of(path: &Path) -> Option<Stamp> {
        let found = fs::metadata(path).ok()?;
        Some(Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Time of modification, in seconds since the epoch.
    pub(super) fn modified(&self) -> i64 {
        self.modified.0
    }

    /// Whether the time of change is at least so long ago.
    pub(super) fn is_older(&self, than: Duration) -> bool {
        let (Ok(seconds), Ok(nanos)) = (self.changed.0.try_into(), self.changed.1.try_into())
        else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        SystemTime::now()
            .duration_since(changed)
            .is_ok_and(|age| age >= than)
    }
}

/// A file and its state when it was read.
#[derive(Clone, Debug)]
struct FileRecord {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// The SHA-256 digest of the content; `None` when it could not be read.
    digest: Option<[u8; 32]>,
    /// Whether it is a directory, whose content is the list of its names.
    is_directory: bool,
}

/// Where [`Files`] take contents from, and whether they keep them.
#[derive(Debug, Default)]
enum Contents {
    /// Read from disk.
    #[default]
    Disk,
    /// Read from disk, with a copy of each file for [`Files::take_contents`].
    Kept(Vec<(PathBuf, Vec<u8>)>),
    /// Given by [`Files::from_contents`].
    Given(HashMap<PathBuf, Vec<u8>>),
}

/// The directory with what is kept over a restart, among it fetched bundles of trust domains.
#[derive(Clone, Debug, Default)]
enum StateDirectory {
    /// Not known: the policy is only checked.
    #[default]
    Unknown,
    /// There is none.
    None,
    Path(PathBuf),
}

/// The files that a policy was read from, the document first.
#[derive(Debug, Default)]
pub struct Files {
    list: Vec<FileRecord>,
    paths: HashSet<PathBuf>,
    bytes_read: usize,
    contents: Contents,
    /// Whether an error was temporary.
    transient: bool,
    /// See [`Files::is_reload`].
    reload: bool,
    state_directory: StateDirectory,
    /// See [`Files::with_outline`].
    outline: bool,
    /// See [`Files::with_more_warnings`].
    more_warnings: bool,
}

impl Files {
    /// Files that keep their contents, for [`Files::take_contents`].
    pub fn keeping_contents() -> Files {
        Files {
            contents: Contents::Kept(Vec::new()),
            ..Files::default()
        }
    }

    /// Files of a policy that is read with its [`super::Outline`], which a gateway does not need.
    pub fn with_outline() -> Files {
        Files {
            outline: true,
            ..Files::default()
        }
    }

    /// Whether the policy is read with its outline.
    pub(super) fn wants_outline(&self) -> bool {
        self.outline
    }

    /// Files of a policy whose warnings are all printed, up to 1,000 of a kind.
    pub fn with_more_warnings() -> Files {
        Files {
            more_warnings: true,
            ..Files::default()
        }
    }

    /// Whether more warnings are kept than a gateway logs.
    pub(super) fn wants_more_warnings(&self) -> bool {
        self.more_warnings
    }

    /// Files of a reload, that keep their contents. See [`Files::is_reload`].
    pub fn for_reload() -> Files {
        Files {
            reload: true,
            ..Files::keeping_contents()
        }
    }

    /// Files with contents from an earlier time. Nothing is read from disk.
    pub fn from_contents(contents: Vec<(PathBuf, Vec<u8>)>) -> Files {
        Files {
            contents: Contents::Given(contents.into_iter().collect()),
            ..Files::default()
        }
    }

    /// The same files, with the directory in which fetched bundles are kept.
    pub fn with_state_directory(self, directory: Option<&Path>) -> Files {
        Files {
            state_directory: match directory {
                Some(directory) => StateDirectory::Path(directory.to_owned()),
                None => StateDirectory::None,
            },
            ..self
        }
    }

    /// The path at which the bundle that was fetched from a URL is kept; `None` where the policy is
    /// only checked.
    ///
    /// # Errors
    /// Without a state directory.
    pub(super) fn bundle_path(&self, url: &str) -> Result<Option<PathBuf>, &'static str> {
        match &self.state_directory {
            StateDirectory::Unknown => Ok(None),
            StateDirectory::None => {
                Err("needs a directory for what is fetched, expected the option 'state_dir' of mtls.init")
            }
            StateDirectory::Path(directory) => Ok(Some(bundle_file(directory, url))),
        }
    }

    /// Returns the contents in the order in which they were read, if they were kept.
    pub fn take_contents(&mut self) -> Vec<(PathBuf, Vec<u8>)> {
        match std::mem::take(&mut self.contents) {
            Contents::Kept(contents) => contents,
            Contents::Disk | Contents::Given(_) => Vec::new(),
        }
    }

    /// Reads a file, up to `max + 1` bytes of it, so that a longer file than `max` is recognised.
    ///
    /// # Errors
    /// Those of [`OpenOptions::open`] and [`Read::read`], and when it is not a regular file, or
    /// there is too little memory. The file is recorded all the same.
    pub fn read(&mut self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        self.read_with(path, false, |path| read_file(path, max))
    }

    /// The names of the entries of a directory, sorted, without those that begin with a dot.
    ///
    /// # Errors
    /// Those of [`fs::read_dir`], and when it has more than [`MAX_LISTED`] such entries. The
    /// directory is recorded all the same.
    pub fn list(&mut self, path: &Path) -> io::Result<Vec<OsString>> {
        let listing = self.read_with(path, true, list_directory)?;
        let names = listing.strip_prefix(LISTING);
        let names = names.ok_or_else(|| io::Error::other("is not a directory"))?;
        let names = names.split(|byte| *byte == 0);
        let names = names.filter(|name| !name.is_empty());
        Ok(names
            .map(|name| OsStr::from_bytes(name).to_owned())
            .collect())
    }

    /// Records a list of paths as the first file, so that it can be read again from the contents.
    pub fn add_list(&mut self, list: &Path) {
        if self.paths.insert(list.to_owned()) {
            self.list.push(FileRecord {
                path: list.to_owned(),
                stamp: None,
                digest: None,
                is_directory: false,
            });
            if let Contents::Kept(contents) = &mut self.contents {
                contents.push((list.to_owned(), Vec::new()));
            }
        }
    }

    /// Whether a path is that of a directory.
    pub fn is_directory(&self, path: &Path) -> bool {
        match &self.contents {
            Contents::Given(contents) => contents
                .get(path)
                .is_some_and(|content| content.starts_with(LISTING)),
            Contents::Disk | Contents::Kept(_) => path.is_dir(),
        }
    }

    fn read_with(
        &mut self,
        path: &Path,
        is_directory: bool,
        from_disk: impl FnOnce(&Path) -> io::Result<Vec<u8>>,
    ) -> io::Result<Vec<u8>> {
        // `stat` is called before the file is read, so that a change in between is detected later.
        let (stamp, bytes) = match &mut self.contents {
            Contents::Given(contents) => {
                let bytes = contents.get(path).cloned();
                (None, bytes.ok_or_else(|| io::ErrorKind::NotFound.into()))
            }
            Contents::Disk | Contents::Kept(_) => (Stamp::of(path), from_disk(path)),
        };
        match &bytes {
            Ok(bytes) => self.bytes_read = self.bytes_read.saturating_add(bytes.len()),
            Err(error) => self.transient |= is_transient(error),
        }
        if self.paths.insert(path.to_owned()) {
            self.list.push(FileRecord {
                path: path.to_owned(),
                stamp,
                digest: bytes.as_ref().ok().map(|bytes| sha256(bytes)),
                is_directory,
            });
            if let (Contents::Kept(contents), Ok(bytes)) = (&mut self.contents, &bytes) {
                contents.push((path.to_owned(), bytes.clone()));
            }
        }
        bytes
    }

    /// Whether an error of [`Files::read`] or [`Files::check_memory`] was temporary, so that it is
    /// worth trying again although no file changes.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// Whether an earlier policy is in force, so that this one can wait until its files are
    /// complete.
    pub fn is_reload(&self) -> bool {
        self.reload
    }

    /// Whether the contents are from an earlier time, see [`Files::from_contents`].
    pub fn is_from_contents(&self) -> bool {
        matches!(self.contents, Contents::Given(_))
    }

    /// Checks that there is enough memory to compile the files.
    ///
    /// # Errors
    /// When there is too little memory. The error is temporary.
    pub fn check_memory(&mut self, need: u64) -> io::Result<()> {
        let checked = memory_limit::check(need);
        self.transient |= checked.is_err();
        checked
    }

    /// The number of bytes that were read.
    pub fn bytes_read(&self) -> usize {
        self.bytes_read
    }

    /// Whether no file was read.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the files that a process of this account cannot read, each with the file or
    /// directory whose owner, group and mode deny it.
    pub fn unreadable_by(&self, account: &Account) -> Vec<(&Path, PathBuf)> {
        let paths = self.list.iter().map(|record| record.path.as_path());
        paths
            .filter_map(|path| Some((path, account.obstacle(path)?)))
            .collect()
    }

    /// Reads all files again. Returns them with new stamps if no content has changed.
    pub fn reread_if_unchanged(&self, max: usize) -> Option<Files> {
        let mut again = Files::default();
        for record in &self.list {
            // Each content is freed before the next file is read, since files may be large.
            let bytes = match record.is_directory {
                true => again.read_with(&record.path, true, list_directory),
                false => again.read(&record.path, max),
            };
            let digest = bytes.ok().map(|bytes| sha256(&bytes));
            if digest.is_none() || digest != record.digest {
                return None;
            }
        }
        Some(again)
    }

    /// Whether `stat` returns the same for every file as right before it was read.
    pub fn stamps_unchanged(&self) -> bool {
        self.list
            .iter()
            .all(|record| Stamp::of(&record.path) == record.stamp)
    }
}

/// A user and the groups that its processes are in.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group ids.
    pub groups: Vec<u32>,
}

/// Permissions in a mode, of its owner, its group or others.
const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;

impl Account {
    /// Returns the file, or the directory on its path, that the account has no permission for.
    /// `None` when there is none, or it cannot be determined. Access control lists are not checked.
    pub fn obstacle(&self, path: &Path) -> Option<PathBuf> {
        self.obstacle_to(path, READ)
    }

    /// As [`Account::obstacle`], for writing files in a directory.
    pub fn obstacle_to_writing(&self, directory: &Path) -> Option<PathBuf> {
        self.obstacle_to(directory, WRITE | SEARCH)
    }

    fn obstacle_to(&self, path: &Path, wanted: u32) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        // The directories above a symbolic link are checked, and those above its target.
        let target = fs::canonicalize(&path).ok()?;
        let above = |path: &Path| -> Vec<PathBuf> {
            path.ancestors().skip(1).map(Path::to_owned).collect()
        };
        let directories: Vec<PathBuf> = [above(&path), above(&target)].concat();
        let directories = directories.into_iter().map(|path| (path, SEARCH));
        directories
            .chain([(target, wanted)])
            .find(|(path, wanted)| {
                fs::metadata(path).is_ok_and(|found| !self.has_permission(&found, *wanted))
            })
            .map(|(path, _)| path)
    }

    /// Whether the mode gives the account all permissions in `wanted`.
    fn has_permission(&self, file: &fs::Metadata, wanted: u32) -> bool {
        let shift = match self.uid {
            0 => return true,
            uid if uid == file.uid() => 6,
            _ if self.groups.contains(&file.gid()) => 3,
            _ => 0,
        };
        file.mode() >> shift & wanted == wanted
    }
}

/// Whether an error may go away without a change of the file. One about a file that is missing or
/// not a regular file is not temporary: the watch detects when that changes.
fn is_transient(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(code) => !matches!(
            code,
            libc::ENOENT | libc::ENOTDIR | libc::EISDIR | libc::ELOOP | libc::ENAMETOOLONG
        ),
        None => matches!(
            error.kind(),
            io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted
        ),
    }
}

fn read_file(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Without O_NONBLOCK, opening a named pipe blocks until another process opens it for writing.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    // For a directory, the error of the read below is clearer.
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::other("is not a regular file"));
    }
    memory_limit::check(file.metadata()?.len().min(max as u64))?;
    // One byte more, so that the caller can distinguish a file that is too long from one of
    // `max` bytes.
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names of a directory as [`Files::list`] returns them, behind [`LISTING`], each with a NUL.
fn list_directory(path: &Path) -> io::Result<Vec<u8>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        if names.len() == MAX_LISTED {
            let message = format!("has over {MAX_LISTED} entries");
            return Err(io::Error::other(message));
        }
        names.push(name);
    }
    names.sort_unstable();
    let mut listing = LISTING.to_vec();
    for name in names {
        listing.extend_from_slice(name.as_bytes());
        listing.push(0);
    }
    Ok(listing)
}

/// The result of a check of watched files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum FileChange {
    /// No file has changed.
    None = 0,
    /// A file has changed, and may still be being written.
    Unsettled = 1,
    /// A file has changed, and none has changed any more for a while.
    Settled = 2,
}

/// Detects changes of files. A change has settled once no file changes any more.
#[derive(Debug, Default)]
pub struct FileWatch {
    files: Arc<Files>,
    /// The stamps of the last check that found a change, and when they were first found.
    seen: Option<(Vec<Option<Stamp>>, Instant)>,
}

impl FileWatch {
    /// Sets the state of the files from which a difference is a change. Returns the previous one.
    pub fn set_baseline(&mut self, files: Arc<Files>) -> Arc<Files> {
        self.seen = None;
        std::mem::replace(&mut self.files, files)
    }

    /// Checks the files. A change has settled once it is `settle` old.
    pub fn check(&mut self, settle: Duration) -> FileChange {
        let files = &self.files.list;
        let files = files.get(..MAX_WATCHED).unwrap_or(files);
        let stamps: Vec<_> = files.iter().map(|record| Stamp::of(&record.path)).collect();
        let same = |(record, stamp): (&FileRecord, &Option<Stamp>)| record.stamp == *stamp;
        if files.iter().zip(&stamps).all(same) {
            self.seen = None;
            return FileChange::None;
        }
        let old = |stamp: &Option<Stamp>| stamp.is_some_and(|stamp| stamp.is_older(settle));
        if stamps.iter().all(old) {
            return FileChange::Settled;
        }
        // A file that was removed has no age, and that of a network file may be wrong, by the clock
        // of another host. For these, the time since the stamps were first found counts.
        match &self.seen {
            Some((seen, since)) if *seen == stamps => match since.elapsed() >= settle {
                true => FileChange::Settled,
                false => FileChange::Unsettled,
            },
            _ => {
                self.seen = Some((stamps, Instant::now()));
                FileChange::Unsettled
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::process::Command;
    use std::thread::sleep;

    const MAX: usize = 100;
    const SETTLE: Duration = Duration::from_millis(100);

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = format!("resty-mtls-files-{}-{name}", std::process::id());
            let dir = std::env::temp_dir().join(dir);
            fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn watch(paths: &[&PathBuf]) -> FileWatch {
        let mut files = Files::default();
        for path in paths {
            let _ = files.read(path, MAX);
        }
        let mut watch = FileWatch::default();
        watch.set_baseline(files.into());
        watch
    }

    /// Checks the files until they have settled.
    fn settled(watch: &mut FileWatch) -> FileChange {
        assert_eq!(watch.check(SETTLE), FileChange::Unsettled);
        sleep(SETTLE);
        watch.check(SETTLE)
    }

    #[test]
    fn check_reports_a_change_once_it_is_old() {
        let dir = Dir::new("old");
        let path = dir.write("p", "one");
        let mut watch = watch(&[&path]);
        assert_eq!(watch.check(SETTLE), FileChange::None);
        dir.write("p", "two");
        assert_eq!(settled(&mut watch), FileChange::Settled);
        dir.write("p", "three");
        assert_eq!(watch.check(SETTLE), FileChange::Unsettled);
        sleep(SETTLE / 2);
        dir.write("p", "threefour");
        assert_eq!(watch.check(SETTLE), FileChange::Unsettled);
        sleep(SETTLE / 2);
        assert_eq!(watch.check(SETTLE), FileChange::Unsettled);
        sleep(SETTLE / 2);
        assert_eq!(watch.check(SETTLE), FileChange::Settled);
    }

    #[test]
    fn check_finds_renames_symlinks_removal_and_a_preserved_time() {
        let dir = Dir::new("kinds");
        let path = dir.write("p", "one");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();

        let mut same = watch(&[&path]);
        fs::rename(dir.write("new", "two"), &path).unwrap();
        assert_eq!(settled(&mut same), FileChange::Settled);

        let mut same = watch(&[&path]);
        dir.write("p", "six");
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert_eq!(settled(&mut same), FileChange::Settled);

        let link = dir.0.join("link");
        symlink("p", &link).unwrap();
        let mut same = watch(&[&link]);
        dir.write("q", "six");
        symlink("q", dir.0.join("link.new")).unwrap();
        fs::rename(dir.0.join("link.new"), &link).unwrap();
        assert_eq!(settled(&mut same), FileChange::Settled);

        let mut same = watch(&[&path, &link]);
        fs::remove_file(&link).unwrap();
        assert_eq!(settled(&mut same), FileChange::Settled);
    }

    #[test]
    fn check_missing_file_is_unchanged_until_it_is_created() {
        let dir = Dir::new("absent");
        let mut watch = watch(&[&dir.0.join("p")]);
        assert_eq!(watch.check(SETTLE), FileChange::None);
        dir.write("p", "one");
        assert_eq!(settled(&mut watch), FileChange::Settled);
    }

    #[test]
    fn reread_if_unchanged_is_none_when_a_content_differs() {
        let dir = Dir::new("again");
        let (p, q) = (dir.write("p", "one"), dir.write("q", "two"));
        let mut files = Files::default();
        files.read(&p, MAX).unwrap();
        files.read(&q, MAX).unwrap();
        dir.write("p", "one");
        assert!(!files.stamps_unchanged());
        let files = files.reread_if_unchanged(MAX).unwrap();
        assert!(files.stamps_unchanged());
        dir.write("q", "three");
        assert!(files.reread_if_unchanged(MAX).is_none());
        fs::remove_file(&q).unwrap();
        assert!(files.reread_if_unchanged(MAX).is_none());
    }

    #[test]
    fn unreadable_by_depends_on_owner_group_and_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = Dir::new("modes");
        let inner = dir.0.join("inner");
        fs::create_dir(&inner).unwrap();
        let path = dir.write("inner/p", "one");
        let link = dir.0.join("link");
        symlink("inner/p", &link).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let target = fs::canonicalize(&path).unwrap();
        let found = fs::metadata(&path).unwrap();
        let owner = Account {
            uid: found.uid(),
            groups: vec![],
        };
        let member = Account {
            uid: 61_001,
            groups: vec![61_001, found.gid()],
        };
        let other = Account {
            uid: 61_001,
            groups: vec![61_001],
        };
        let root = Account::default();
        let mut files = Files::default();
        files.read(&link, MAX).unwrap();
        let obstacle = |account: &Account| {
            let found = files.unreadable_by(account);
            found.first().map(|(path, obstacle)| {
                assert_eq!(*path, link);
                obstacle.clone()
            })
        };

        mode(&dir.0, 0o755);
        mode(&inner, 0o755);
        mode(&path, 0o600);
        assert_eq!(obstacle(&root), None);
        assert_eq!(obstacle(&owner), None);
        assert_eq!(obstacle(&member), Some(target.clone()));
        assert_eq!(obstacle(&other), Some(target.clone()));
        mode(&path, 0o640);
        assert_eq!(obstacle(&member), None);
        assert_eq!(obstacle(&other), Some(target.clone()));
        mode(&path, 0o644);
        assert_eq!(obstacle(&other), None);
        // Members of the group have only the permissions of the group, even if others have more.
        mode(&path, 0o604);
        assert_eq!(obstacle(&member), Some(target));
        assert_eq!(obstacle(&other), None);
        mode(&inner, 0o750);
        assert_eq!(obstacle(&other), Some(fs::canonicalize(&inner).unwrap()));
        mode(&inner, 0o700);
        let inner_path = fs::canonicalize(&inner).unwrap();
        assert_eq!(owner.obstacle_to_writing(&inner), None);
        assert_eq!(other.obstacle_to_writing(&inner), Some(inner_path.clone()));
        mode(&inner, 0o755);
        assert_eq!(other.obstacle_to_writing(&inner), Some(inner_path));
        fs::remove_file(&path).unwrap();
        assert_eq!(obstacle(&other), None);
    }

    #[test]
    fn read_does_not_block_on_a_pipe() {
        let dir = Dir::new("pipe");
        let path = dir.0.join("p");
        assert!(Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success());
        for path in [path.as_path(), Path::new("/dev/null")] {
            let error = Files::default().read(path, MAX).unwrap_err();
            assert_eq!(error.to_string(), "is not a regular file");
        }
    }
}
