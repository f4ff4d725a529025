//! What is remembered about one request until nginx frees its memory: in that memory, so that an
//! internal redirect does not lose it and nothing is left to a garbage collector.
//!
//! The caller keeps tables of its own for requests, under numbers that are given here. One table may
//! serve many requests, so its uses are counted, and its number is returned when it has none left.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::{self, align_of};
use std::ptr;
use std::rc::Rc;

use foldhash::fast::RandomState;

use super::access::{rmtls_decision, rmtls_lines};
use super::{guard_without_openssl, handle, output, put, rmtls_buf};
use crate::engine::PackedLines;
use crate::Error;

/// `ngx_pool_cleanup_t`.
#[repr(C)]
pub struct rmtls_nginx_cleanup {
    /// The function that is called with `data` when the pool is destroyed.
    pub handler: *const c_void,
    /// What `handler` is called with.
    pub data: *mut c_void,
    /// The cleanup after this one.
    pub next: *mut rmtls_nginx_cleanup,
}

/// What is remembered about a request. The caller changes all but the first five.
#[repr(C)]
pub struct rmtls_request_state {
    /// The request, in nginx's memory, or `NULL` if the state is in memory of the caller.
    pub request: *const c_void,
    /// The number of the caller, from `rmtls_request_state_owner`.
    pub owner: u32,
    /// 1 when another caller has had a table for this request alone, else 0.
    pub is_lost: i32,
    /// Number of the caller's table for what it decided about, or 0.
    pub record: u32,
    /// Number of the caller's table for this request alone, or 0.
    pub extra: u32,
    /// The configuration of the location in which the request was decided.
    pub location: *const c_void,
    /// The name of the route for which it was decided.
    pub route: *const u8,
    /// Bytes of the name.
    pub route_len: usize,
    /// 1 when the request was decided, else 0: then the fields above and below have no meaning.
    pub is_decided: i32,
    /// 1 when it is allowed, else 0.
    pub is_allowed: i32,
    /// Status of the refusal, or 0.
    pub status: i32,
    /// 1 when the request lacks the upstream headers of the decision, which were listed, or set and
    /// removed since; else 0.
    pub lacks_headers: i32,
    /// 1 when it is a CORS preflight that was not authenticated, else 0.
    pub is_preflight: i32,
    /// The last decision about the request.
    pub decision: rmtls_decision,
}

impl rmtls_request_state {
    fn new(request: *const c_void, owner: u32) -> rmtls_request_state {
        rmtls_request_state {
            request,
            owner,
            is_lost: 0,
            record: 0,
            extra: 0,
            location: ptr::null(),
            route: ptr::null(),
            route_len: 0,
            is_decided: 0,
            is_allowed: 0,
            status: 0,
            lacks_headers: 0,
            is_preflight: 0,
            decision: rmtls_decision::default(),
        }
    }
}

/// A table of the caller.
#[derive(Clone, Copy)]
struct Table {
    /// How many states have it.
    uses: u32,
    kept: Kept,
}

/// For how long a table is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Until it is retired.
    Always,
    /// While a state has it.
    WhileUsed,
    /// The caller drops it, or has dropped it.
    No,
}

/// A request with a state.
struct Live {
    state: *mut rmtls_request_state,
    /// What the headers of the request point to.
    lines: Option<Rc<PackedLines>>,
    /// What else they point to, where they were appended more than once.
    more_lines: Vec<Rc<PackedLines>>,
}

/// The states of this worker's requests.
#[derive(Default)]
struct Requests {
    /// By the address of the request.
    states: HashMap<usize, Live, RandomState>,
    /// By their numbers, less 1.
    tables: Vec<Table>,
    /// Numbers of tables that the caller has not dropped yet.
    released: Vec<u32>,
    /// Numbers without a table.
    free: Vec<u32>,
    last_owner: u32,
}

thread_local! {
    static REQUESTS: RefCell<Requests> = RefCell::default();
}

impl Requests {
    /// 0 has no table.
    fn table(&mut self, number: u32) -> Option<&mut Table> {
        self.tables.get_mut((number as usize).checked_sub(1)?)
    }

    fn new_table(&mut self) -> Result<u32, Error> {
        let new = Table {
            uses: 0,
            kept: Kept::Always,
        };
        if let Some(number) = self.free.pop() {
            if let Some(table) = self.table(number) {
                *table = new;
            }
            return Ok(number);
        }
        self.tables.push(new);
        u32::try_from(self.tables.len()).map_err(|_| Error::Panic)
    }

    fn begin_use(&mut self, number: u32) {
        if let Some(table) = self.table(number) {
            table.uses = table.uses.saturating_add(1);
        }
    }

    fn end_use(&mut self, number: u32) {
        if let Some(table) = self.table(number) {
            table.uses = table.uses.saturating_sub(1);
            self.release_unused(number);
        }
    }

    fn retire(&mut self, number: u32) {
        if let Some(table) = self.table(number) {
            if table.kept == Kept::Always {
                table.kept = Kept::WhileUsed;
                self.release_unused(number);
            }
        }
    }

    fn release_unused(&mut self, number: u32) {
        if let Some(table) = self.table(number) {
            if table.uses == 0 && table.kept == Kept::WhileUsed {
                table.kept = Kept::No;
                self.released.push(number);
            }
        }
    }

    fn end(&mut self, state: &mut rmtls_request_state) {
        if !state.request.is_null() {
            self.states.remove(&(state.request as usize));
        }
        self.end_use(mem::take(&mut state.record));
        self.end_use(mem::take(&mut state.extra));
    }
}

/// Runs `body` with the states. None of the functions here runs within another.
fn with_requests<T>(body: impl FnOnce(&mut Requests) -> Result<T, Error>) -> Result<T, Error> {
    REQUESTS
        .try_with(|requests| body(&mut *requests.try_borrow_mut().map_err(|_| Error::Panic)?))
        .map_err(|_| Error::Panic)?
}

/// Keeps header lines until nginx frees the request.
pub(super) fn keep_lines(request: *const c_void, lines: Rc<PackedLines>) -> Result<(), Error> {
    with_requests(|requests| {
        let Some(live) = requests.states.get_mut(&(request as usize)) else {
            return Err(Error::Misuse(
                "header lines: the request has no state".into(),
            ));
        };
        match &live.lines {
            None => live.lines = Some(lines),
            Some(first) if Rc::ptr_eq(first, &lines) => (),
            Some(_) => live.more_lines.push(lines),
        }
        Ok(())
    })
}

/// Keeps header lines that were set on a request until nginx frees it, for
/// `rmtls_request_state_line_name`. `RMTLS_INVALID` if the request has no state.
///
/// # Safety
/// `lines` is NULL or valid lines of `rmtls_engine_lines` or `rmtls_engine_claim_headers`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_keep_lines(
    request: *const c_void,
    lines: *const rmtls_lines,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let lines = unsafe { handle(lines)?.kept()? };
        keep_lines(request, lines)
    })
}

/// Writes the name of line number `index` of all that are kept for a request: those that were set
/// on it, or may have been. `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_line_name(
    request: *const c_void,
    index: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard_without_openssl(|| {
        with_requests(|requests| {
            let live = requests.states.get(&(request as usize));
            let live = live.ok_or(Error::NotFound)?;
            let lines = live.lines.iter().chain(&live.more_lines);
            let mut names = lines.flat_map(|lines| lines.names());
            let name = names.nth(index).ok_or(Error::NotFound)?;
            // SAFETY: the caller's promise, passed on unchanged.
            unsafe { put(out, name) }
        })
    })
}

/// Writes a number for a caller that no other has, such as each Lua VM of a worker.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_owner(out: *mut u32) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let out = unsafe { output(out)? };
        *out = with_requests(|requests| {
            requests.last_owner = requests.last_owner.wrapping_add(1);
            Ok(requests.last_owner)
        })?;
        Ok(())
    })
}

/// Writes the state of a live request, which lives as long as the request; `RMTLS_NOT_FOUND` if it
/// has none.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_find(
    request: *const c_void,
    out: *mut *mut rmtls_request_state,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let out = unsafe { output(out)? };
        *out = with_requests(|requests| match requests.states.get(&(request as usize)) {
            Some(live) => Ok(live.state),
            None => Err(Error::NotFound),
        })?;
        Ok(())
    })
}

/// Begins the state of a request in the memory of a cleanup that was just added to its pool, and
/// ends it when nginx runs the cleanup. `RMTLS_INVALID` if the request has a state.
///
/// # Safety
/// `cleanup` is NULL or a new cleanup of the pool of `request`, with memory for an
/// `rmtls_request_state`; `out` is NULL or valid for writing. The request lives as long as the pool.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_begin(
    request: *const c_void,
    owner: u32,
    cleanup: *mut rmtls_nginx_cleanup,
    out: *mut *mut rmtls_request_state,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (cleanup, out) = unsafe { (output(cleanup)?, output(out)?) };
        let state = cleanup.data.cast::<rmtls_request_state>();
        if request.is_null() || state.is_null() {
            return Err(Error::NullArgument);
        }
        if state.align_offset(align_of::<rmtls_request_state>()) != 0 {
            return Err(Error::Misuse(
                "request state: memory that is not aligned".into(),
            ));
        }
        with_requests(|requests| {
            let Entry::Vacant(place) = requests.states.entry(request as usize) else {
                return Err(Error::Misuse("request state: there is one".into()));
            };
            // SAFETY: the memory is the caller's alone, aligned, and has room for a state.
            unsafe { state.write(rmtls_request_state::new(request, owner)) };
            place.insert(Live {
                state,
                lines: None,
                more_lines: Vec::new(),
            });
            Ok(())
        })?;
        let end: unsafe extern "C" fn(*mut c_void) = rmtls_request_state_end;
        cleanup.handler = end as *const c_void;
        *out = state;
        Ok(())
    })
}

/// Ends a state: of a request whose memory nginx frees, or one in memory of the caller.
///
/// # Safety
/// `state` is NULL or a valid `rmtls_request_state`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_end(state: *mut c_void) {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let state = unsafe { output(state.cast::<rmtls_request_state>())? };
        with_requests(|requests| {
            requests.end(state);
            Ok(())
        })
    });
}

/// Makes a state that of another caller, which has none of the tables of the one before.
///
/// # Safety
/// `state` is NULL or a valid `rmtls_request_state`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_take_over(
    state: *mut rmtls_request_state,
    owner: u32,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let state = unsafe { output(state)? };
        with_requests(|requests| {
            state.is_lost |= i32::from(state.extra != 0);
            requests.end_use(mem::take(&mut state.record));
            requests.end_use(mem::take(&mut state.extra));
            Ok(())
        })?;
        state.owner = owner;
        state.is_decided = 0;
        Ok(())
    })
}

/// Sets `record` of a state.
///
/// # Safety
/// `state` is NULL or a valid `rmtls_request_state`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_set_record(
    state: *mut rmtls_request_state,
    table: u32,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let state = unsafe { output(state)? };
        with_requests(|requests| {
            requests.begin_use(table);
            requests.end_use(mem::replace(&mut state.record, table));
            Ok(())
        })
    })
}

/// Sets `extra` of a state to the number of a new table, which is kept as long as the state.
///
/// # Safety
/// `state` is NULL or a valid `rmtls_request_state`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_new_extra(state: *mut rmtls_request_state) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let state = unsafe { output(state)? };
        with_requests(|requests| {
            let table = requests.new_table()?;
            requests.begin_use(table);
            requests.retire(table);
            requests.end_use(mem::replace(&mut state.extra, table));
            Ok(())
        })
    })
}

/// Writes the number of a new table of the caller, which keeps it until the number is one of
/// `rmtls_request_state_released_table`.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_new_table(out: *mut u32) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let out = unsafe { output(out)? };
        *out = with_requests(Requests::new_table)?;
        Ok(())
    })
}

/// Says that no other state will get this table: it is released when no state has it.
#[no_mangle]
pub extern "C" fn rmtls_request_state_retire_table(table: u32) -> i32 {
    guard_without_openssl(|| {
        with_requests(|requests| {
            requests.retire(table);
            Ok(())
        })
    })
}

/// Writes the number of a table that the caller must drop before it asks for a new one, each once;
/// `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_released_table(out: *mut u32) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let out = unsafe { output(out)? };
        *out = with_requests(|requests| {
            let number = requests.released.pop().ok_or(Error::NotFound)?;
            requests.free.push(number);
            Ok(number)
        })?;
        Ok(())
    })
}

/// Writes how many states have a table of the caller, those with two counted twice.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_uses(out: *mut u64) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let out = unsafe { output(out)? };
        *out = with_requests(|requests| {
            Ok(requests
                .tables
                .iter()
                .map(|table| u64::from(table.uses))
                .sum())
        })?;
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::undocumented_unsafe_blocks)] // requests and cleanups of the test itself
mod tests {
    use super::*;
    use crate::ffi::{RMTLS_INVALID, RMTLS_NOT_FOUND, RMTLS_NULL_ARGUMENT, RMTLS_OK};

    const WORDS: usize = size_of::<rmtls_request_state>().div_ceil(8);

    /// A request with a cleanup, as nginx has them.
    struct Request {
        memory: Box<[u64; WORDS]>,
        cleanup: rmtls_nginx_cleanup,
    }

    impl Request {
        fn new() -> Request {
            let mut memory = Box::new([u64::MAX; WORDS]);
            let cleanup = rmtls_nginx_cleanup {
                handler: ptr::null(),
                data: memory.as_mut_ptr().cast(),
                next: ptr::null_mut(),
            };
            Request { memory, cleanup }
        }

        fn address(&self) -> *const c_void {
            self.memory.as_ptr().cast()
        }

        fn begin(&mut self) -> (i32, *mut rmtls_request_state) {
            let mut state = ptr::null_mut();
            let request = self.address();
            let status =
                unsafe { rmtls_request_state_begin(request, 7, &mut self.cleanup, &mut state) };
            (status, state)
        }

        fn find(&self) -> (i32, *mut rmtls_request_state) {
            let mut state = ptr::null_mut();
            let status = unsafe { rmtls_request_state_find(self.address(), &mut state) };
            (status, state)
        }

        /// As nginx frees it.
        fn end(&mut self) {
            assert!(!self.cleanup.handler.is_null());
            unsafe { rmtls_request_state_end(self.cleanup.data) };
        }
    }

    fn uses() -> u64 {
        let mut uses = u64::MAX;
        assert_eq!(unsafe { rmtls_request_state_uses(&mut uses) }, RMTLS_OK);
        uses
    }

    fn new_table() -> u32 {
        let mut table = 0;
        assert_eq!(
            unsafe { rmtls_request_state_new_table(&mut table) },
            RMTLS_OK
        );
        assert_ne!(table, 0);
        table
    }

    fn set_record(state: *mut rmtls_request_state, table: u32) {
        let status = unsafe { rmtls_request_state_set_record(state, table) };
        assert_eq!((status, unsafe { (*state).record }), (RMTLS_OK, table));
    }

    fn new_extra(state: *mut rmtls_request_state) -> u32 {
        assert_eq!(unsafe { rmtls_request_state_new_extra(state) }, RMTLS_OK);
        unsafe { (*state).extra }
    }

    fn released() -> Option<u32> {
        let mut table = 0;
        match unsafe { rmtls_request_state_released_table(&mut table) } {
            RMTLS_OK => Some(table),
            status => {
                assert_eq!(status, RMTLS_NOT_FOUND);
                None
            }
        }
    }

    #[test]
    fn state_ends_with_its_request() {
        let (mut first, mut second) = (Request::new(), Request::new());
        assert_eq!(first.find().0, RMTLS_NOT_FOUND);
        let (status, state) = first.begin();
        assert_eq!((status, state), (RMTLS_OK, first.find().1));
        let state = unsafe { &mut *state };
        assert_eq!((state.record, state.extra, state.is_decided), (0, 0, 0));
        assert_eq!((state.owner, state.is_lost), (7, 0));
        assert_eq!(state.request, first.address());
        assert_eq!(second.find().0, RMTLS_NOT_FOUND);
        assert_eq!(second.begin().0, RMTLS_OK);
        assert_ne!(first.find().1, second.find().1);
        first.end();
        assert_eq!(first.find().0, RMTLS_NOT_FOUND);
        assert_eq!(second.find().0, RMTLS_OK);
        // Another request at the same address.
        assert_eq!(first.begin().0, RMTLS_OK);
        first.end();
        second.end();
        assert_eq!(second.find().0, RMTLS_NOT_FOUND);
    }

    #[test]
    fn begin_changes_nothing_where_it_cannot() {
        let mut request = Request::new();
        assert_eq!(request.begin().0, RMTLS_OK);
        let mut memory = [0_u64; WORDS];
        let mut again = rmtls_nginx_cleanup {
            handler: ptr::null(),
            data: memory.as_mut_ptr().cast(),
            next: ptr::null_mut(),
        };
        let mut state = ptr::null_mut();
        let mut begin = |request, cleanup: *mut rmtls_nginx_cleanup| unsafe {
            rmtls_request_state_begin(request, 7, cleanup, &mut state)
        };
        assert_eq!(begin(request.address(), &mut again), RMTLS_INVALID);
        assert!(again.handler.is_null());
        assert_eq!(begin(ptr::null(), &mut again), RMTLS_NULL_ARGUMENT);
        again.data = memory.as_mut_ptr().wrapping_byte_add(1).cast();
        assert_eq!(begin(again.data, &mut again), RMTLS_INVALID);
        again.data = ptr::null_mut();
        let data = memory.as_ptr().cast();
        assert_eq!(begin(data, &mut again), RMTLS_NULL_ARGUMENT);
        assert!(again.handler.is_null() && state.is_null());
        request.end();
    }

    #[test]
    fn retired_table_is_released_when_no_state_has_it() {
        let mut requests = [Request::new(), Request::new()];
        let (table, other) = (new_table(), new_table());
        for request in &mut requests {
            set_record(request.begin().1, table);
        }
        assert_eq!(uses(), 2);
        let [first, second] = &mut requests;
        set_record(first.find().1, table);
        set_record(second.find().1, other);
        assert_eq!(uses(), 2);
        // Twice, as by a caller that drops it for two reasons.
        rmtls_request_state_retire_table(table);
        rmtls_request_state_retire_table(table);
        assert_eq!(released(), None);
        first.end();
        second.end();
        assert_eq!((uses(), released(), released()), (0, Some(table), None));
        rmtls_request_state_retire_table(table);
        assert_eq!(released(), None);
        // Without a state at once. Then the numbers are given again.
        rmtls_request_state_retire_table(other);
        assert_eq!((released(), released()), (Some(other), None));
        assert_eq!([new_table(), new_table()], [other, table]);
        // No numbers of tables.
        for number in [0, 3, u32::MAX] {
            rmtls_request_state_retire_table(number);
        }
        assert_eq!(released(), None);
    }

    #[test]
    fn number_is_not_given_again_before_its_table_is_dropped() {
        let table = new_table();
        rmtls_request_state_retire_table(table);
        assert_ne!(new_table(), table);
        assert_eq!(released(), Some(table));
        assert_eq!(new_table(), table);
    }

    #[test]
    fn extra_is_released_with_its_request() {
        let mut requests = [Request::new(), Request::new()];
        let tables = requests
            .each_mut()
            .map(|request| new_extra(request.begin().1));
        assert_ne!(tables[0], tables[1]);
        assert_eq!(released(), None);
        requests[1].end();
        assert_eq!((released(), released()), (Some(tables[1]), None));
        requests[0].end();
        assert_eq!((released(), released()), (Some(tables[0]), None));
    }

    #[test]
    fn take_over_leaves_nothing_of_the_caller_before() {
        let mut request = Request::new();
        let state = request.begin().1;
        let table = new_table();
        set_record(state, table);
        unsafe {
            (*state).is_decided = 1;
            assert_eq!(rmtls_request_state_take_over(state, 8), RMTLS_OK);
            let state = &*state;
            assert_eq!((state.owner, state.record, state.extra), (8, 0, 0));
            assert_eq!((state.is_decided, state.is_lost), (0, 0));
        }
        assert_eq!((uses(), released()), (0, None));
        let extra = new_extra(state);
        for owner in [9, 10] {
            let status = unsafe { rmtls_request_state_take_over(state, owner) };
            assert_eq!((status, unsafe { (*state).is_lost }), (RMTLS_OK, 1));
        }
        assert_eq!((released(), released()), (Some(extra), None));
        request.end();
    }

    #[test]
    fn state_in_memory_of_the_caller_is_no_request() {
        let mut state = rmtls_request_state::new(ptr::null(), 7);
        let table = new_table();
        set_record(&mut state, table);
        let extra = new_extra(&mut state);
        assert_eq!(uses(), 2);
        // Twice, as by a caller that ends it before its collector does.
        for _ in 0..2 {
            unsafe { rmtls_request_state_end(ptr::from_mut(&mut state).cast()) };
        }
        assert_eq!((uses(), released(), released()), (0, Some(extra), None));
    }
}
