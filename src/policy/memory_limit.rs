//! Checks before a policy is compiled that there is memory for it: a failed allocation ends the
//! process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A smaller need is not checked.
const UNCHECKED: u64 = 4 << 20;
/// Memory that is left for the rest of the process.
const RESERVE: u64 = 16 << 20;

/// Bytes that compiling a document takes at most, by estimate. Measured peaks over documents of 4
/// to 20 MB (routes, consumers, rules, empty entries; YAML and JSON) are 0.55 to 0.85 of it.
pub fn estimate_for_document(text: &[u8]) -> u64 {
    let values = text
        .iter()
        .filter(|byte| matches!(byte, b',' | b':' | b'{' | b'[' | b'\n'))
        .count();
    (text.len() as u64)
        .saturating_mul(5)
        .saturating_add((values as u64).saturating_mul(180))
}

/// Bytes of memory for each byte of a file of CRLs.
pub const CRL_WEIGHT: u64 = 5;
/// Bytes of memory for each byte of a file of certificates: OpenSSL keeps their fields and keys
/// decoded.
pub const CERTIFICATE_WEIGHT: u64 = 12;

/// Bytes that a file of lists or certificates takes at most, by estimate.
pub fn estimate_for_file(len: u64, weight: u64) -> u64 {
    len.saturating_mul(weight)
}

/// Checks that `need` more bytes are available.
///
/// # Errors
/// [`io::ErrorKind::OutOfMemory`] with both numbers and the limit.
pub fn check(need: u64) -> io::Result<()> {
    match limits(Path::new("/")).into_iter().min() {
        Some(limit) => limit.admit(need),
        None => Ok(()),
    }
}

/// The memory that a limit leaves to this process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Limit {
    available: u64,
    by: String,
}

impl Limit {
    fn admit(&self, need: u64) -> io::Result<()> {
        if need < UNCHECKED || need.saturating_add(RESERVE) <= self.available {
            return Ok(());
        }
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!(
                "about {} MB of memory are needed, {} MB are available ({})",
                megabytes(need.saturating_add(RESERVE)),
                self.available >> 20,
                self.by
            ),
        ))
    }
}

/// The limits of process, machine and cgroups, read below `root`.
fn limits(root: &Path) -> Vec<Limit> {
    let mut limits = Vec::new();
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let status = text("proc/self/status");
    let used = |name: &str| kilobytes(&status, name).unwrap_or(0);
    let resource = text("proc/self/limits");
    for (name, by, used) in [
        ("Max address space", "RLIMIT_AS", used("VmSize:")),
        ("Max data size", "RLIMIT_DATA", used("VmData:")),
    ] {
        let soft = resource.lines().find_map(|line| {
            line.strip_prefix(name)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        if let Some(soft) = soft {
            let soft: u64 = soft;
            limits.push(Limit {
                available: soft.saturating_sub(used),
                by: by.to_owned(),
            });
        }
    }
    if let Some(available) = kilobytes(&text("proc/meminfo"), "MemAvailable:") {
        limits.push(Limit {
            available,
            by: "MemAvailable".to_owned(),
        });
    }
    for line in text("proc/self/cgroup").lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (mount, max, current, inactive) = match controllers {
            "" => (
                "sys/fs/cgroup",
                "memory.max",
                "memory.current",
                "inactive_file",
            ),
            list if list.split(',').any(|controller| controller == "memory") => (
                "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
            _ => continue,
        };
        let mount = root.join(mount);
        // The limits of all parent groups apply too. In a container the path may be that of the
        // host: then the group is the root of the mount.
        let mut group = PathBuf::from(group.trim_start_matches('/'));
        loop {
            let directory = mount.join(&group);
            let number = |file: &str| -> Option<u64> {
                fs::read_to_string(directory.join(file))
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            };
            if let (Some(max), Some(current)) = (number(max), number(current)) {
                let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
                // The kernel reclaims inactive page cache before it kills a process.
                let cache = stat
                    .lines()
                    .find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok())
                    .unwrap_or(0);
                limits.push(Limit {
                    available: max.saturating_sub(current.saturating_sub(cache)),
                    by: format!("memory of the cgroup /{}", group.display()),
                });
            }
            if !group.pop() {
                break;
            }
        }
    }
    limits
}

/// The value of a line `NAME N kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Root {
            let root = std::env::temp_dir()
                .join(format!("resty-mtls-memory-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Root(root)
        }

        fn tightest(&self) -> Limit {
            limits(&self.0).into_iter().min().unwrap()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn limits_are_the_tightest_of_process_machine_and_cgroups() {
        let status = "Name:\tnginx\nVmSize:\t  100000 kB\nVmData:\t   50000 kB\n";
        let unlimited =
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max data size             unlimited            unlimited            bytes\n\
             Max address space         unlimited            unlimited            bytes\n";
        let meminfo = "MemTotal: 9000000 kB\nMemAvailable:   8000000 kB\n";
        let base = [
            ("proc/self/status", status),
            ("proc/self/limits", unlimited),
            ("proc/meminfo", meminfo),
        ];
        let root = Root::new("machine", &base);
        assert_eq!(root.tightest().by, "MemAvailable");
        assert_eq!(root.tightest().available, 8_000_000 << 10);

        let limited = unlimited.replace(
            "Max address space         unlimited",
            "Max address space         202400000",
        );
        let root = Root::new("as", &[base[0], ("proc/self/limits", &limited), base[2]]);
        assert_eq!(root.tightest().by, "RLIMIT_AS");
        assert_eq!(root.tightest().available, 100_000_000);

        let root = Root::new(
            "v2",
            &[
                base[0],
                base[1],
                base[2],
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/memory.max", "1000000\n"),
                ("sys/fs/cgroup/a/memory.current", "700000\n"),
                (
                    "sys/fs/cgroup/a/memory.stat",
                    "anon 1\ninactive_file 200000\n",
                ),
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                ("sys/fs/cgroup/a/b/memory.current", "5\n"),
            ],
        );
        let limit = root.tightest();
        assert_eq!(
            (limit.available, &*limit.by),
            (500_000, "memory of the cgroup /a")
        );

        let root = Root::new(
            "v1",
            &[
                base[0],
                base[1],
                base[2],
                ("proc/self/cgroup", "5:cpu,memory:/not/here\n1:name=x:/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "900\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n"),
            ],
        );
        let limit = root.tightest();
        assert_eq!((limit.available, &*limit.by), (0, "memory of the cgroup /"));
    }

    #[test]
    fn admit_names_both_numbers_and_the_limit() {
        let limit = Limit {
            available: 100 << 20,
            by: "RLIMIT_AS".to_owned(),
        };
        assert!(limit.admit(84 << 20).is_ok());
        let error = limit.admit((84 << 20) + 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(
            error.to_string(),
            "about 101 MB of memory are needed, 100 MB are available (RLIMIT_AS)"
        );
        let none = Limit {
            available: 0,
            ..limit
        };
        assert!(none.admit(UNCHECKED - 1).is_ok());
        assert!(check(u64::MAX).is_err());
        assert!(check(0).is_ok());
    }
}
