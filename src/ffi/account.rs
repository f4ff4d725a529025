//! Accounts of the system, as nginx looks them up for its workers.

use std::ffi::CString;

use crate::policy::Account;

/// Most groups of a user that are read.
const MAX_GROUPS: usize = 1024;

/// The account that nginx gives its workers for `user NAME [GROUP];`. Without a group, it is the
/// group with the name of the user, or else the primary group. `None` when there is no such user
/// or group.
///
/// # Safety
/// No other thread may look up users or groups at the same time: `getpwnam` and `getgrnam`
/// return static memory.
pub(super) unsafe fn account(user: &str, group: Option<&str>) -> Option<Account> {
    let name = CString::new(user).ok()?;
    let named = CString::new(group.unwrap_or(user)).ok()?;
    // SAFETY: a NUL-terminated string; the result is NULL or valid until the next call, and copied.
    let found = unsafe { libc::getpwnam(name.as_ptr()).as_ref() }?;
    let (uid, primary) = (found.pw_uid, found.pw_gid);
    // SAFETY: as above.
    let gid = unsafe { libc::getgrnam(named.as_ptr()).as_ref() }.map(|found| found.gr_gid);
    let gid = match group {
        Some(_) => gid?,
        // A user such as nobody, whose group is named nogroup.
        None => gid.unwrap_or(primary),
    };
    let mut groups = vec![0; MAX_GROUPS];
    let mut count = MAX_GROUPS as libc::c_int;
    // SAFETY: `groups` has room for `count` ids, and `count` is set to how many there are.
    let status = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
    groups.truncate(match status {
        -1 => 0,
        _ => usize::try_from(count).unwrap_or(0),
    });
    groups.push(gid);
    Some(Account { uid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_that_of_the_system() {
        // SAFETY: no other test looks up users.
        unsafe {
            let root = account("root", None).unwrap();
            assert_eq!((root.uid, root.groups.contains(&0)), (0, true));
            assert!(account("root", Some("no-such-group")).is_none());
            assert!(account("no-such-user", Some("root")).is_none());
            assert!(account("no\0user", None).is_none());
        }
    }
}
