//! Users of the system.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;

/// Room in bytes for the entry of a user. One that needs more is shown without its name.
const ENTRY: usize = 4096;

/// The user id with which this process opens files.
pub fn effective_uid() -> u32 {
    // SAFETY: the call takes no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// The name of a user; `None` when there is none or it cannot be looked up.
fn name(uid: u32) -> Option<String> {
    let mut entry = MaybeUninit::uninit();
    let mut strings = [0; ENTRY];
    let mut found = ptr::null_mut();
    // SAFETY: the entry and the pointer are valid for writing, and `strings` for its length.
    let status = unsafe {
        libc::getpwuid_r(
            uid,
            entry.as_mut_ptr(),
            strings.as_mut_ptr(),
            strings.len(),
            &mut found,
        )
    };
    if status != 0 || found.is_null() {
        return None;
    }
    // SAFETY: `found` is not NULL, so the entry is filled, and its name is a string in `strings`.
    let name = unsafe { CStr::from_ptr(entry.assume_init_ref().pw_name) };
    Some(name.to_string_lossy().into_owned())
}

/// A user for an error, `NAME (uid NUMBER)`, or `uid NUMBER` for one without a name.
pub fn shown(uid: u32) -> String {
    match name(uid) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_has_the_name_of_the_system_and_the_number() {
        assert_eq!(shown(0), "root (uid 0)");
        assert_eq!(shown(u32::MAX - 7), "uid 4294967288");
    }
}
