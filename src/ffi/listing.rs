//! Parts of the policy in force as JSON, for the operator's page.

use super::engine::rmtls_engine;
use super::{guard, handle, put, rmtls_buf, text};
use crate::policy::{Page, MAX_LISTED};

/// Most entries that `rmtls_engine_list_routes` and `rmtls_engine_list_server_names` list.
pub const RMTLS_MAX_LISTED: i32 = 1000;
const _: () = assert!(RMTLS_MAX_LISTED as usize == MAX_LISTED);

/// Writes routes of the policy in force, with their plugins, as a JSON object: `total`, `matching`,
/// `from`, `items` (`name`, or the id; `plugins`; `report_only`, those of them with `enforce:
/// report`), `without_route` and `without_route_report_only`. `from` of those whose names contain
/// the text `filter` are left out, and at most `limit` are listed.
///
/// # Safety
/// `engine` is NULL or live; `filter` is readable for `filter_len` bytes; `out` is NULL or valid,
/// with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_list_routes(
    engine: *const rmtls_engine,
    from: usize,
    limit: usize,
    filter: *const u8,
    filter_len: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let policy = handle(engine)?.engine().policy()?;
            let filter = text(filter, filter_len)?;
            let page = Page {
                from,
                limit,
                filter,
            };
            put(out, policy.list_routes(page).as_bytes())
        }
    })
}

/// As `rmtls_engine_list_routes`, with the server names under which a client certificate is
/// requested. `items` have `name`, `ca_names`, `ca_names_bytes`, `ca_names_sent` and `resumption`.
///
/// # Safety
/// As `rmtls_engine_list_routes`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_list_server_names(
    engine: *const rmtls_engine,
    from: usize,
    limit: usize,
    filter: *const u8,
    filter_len: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let policy = handle(engine)?.engine().policy()?;
            let filter = text(filter, filter_len)?;
            let page = Page {
                from,
                limit,
                filter,
            };
            put(out, policy.list_server_names(page).as_bytes())
        }
    })
}
