//! What is remembered about one request until nginx frees its memory: in that memory, so that an
//! internal redirect does not lose it and nothing is left to a garbage collector.
//!
//! The caller keeps tables of its own under the numbers in a state: one table, a context, may serve
//! many requests, so its uses are counted here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::align_of;
use std::ptr;

use foldhash::fast::RandomState;

use super::{guard_without_openssl, output};
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

/// What is remembered about a request. The caller may change `changes` and `is_listed`.
#[repr(C)]
pub struct rmtls_request_state {
    /// The request, in nginx's memory, or `NULL` if the state is in memory of the caller.
    pub request: *const c_void,
    /// The configuration of the location in which `context` was set.
    pub location: *const c_void,
    /// `rmtls_engine_changes` of the decision.
    pub changes: u64,
    /// Number of the caller's table for this request alone, or 0. No other request has it.
    pub extra: u64,
    /// Number of the caller's context, or 0.
    pub context: u32,
    /// The number of the caller, from `rmtls_request_state_owner`.
    pub owner: u32,
    /// 1 when the last decision set no upstream headers but listed them, else 0.
    pub is_listed: i32,
}

/// The states of this worker's requests.
#[derive(Default)]
struct Requests {
    /// By the address of the request.
    states: HashMap<usize, *mut rmtls_request_state, RandomState>,
    /// How many states have each context.
    uses: Vec<u32>,
    last_extra: u64,
    last_owner: u32,
    /// Numbers `extra` of requests that have ended.
    ended: Vec<u64>,
}

thread_local! {
    static REQUESTS: RefCell<Requests> = RefCell::default();
}

impl Requests {
    fn count_use(&mut self, context: u32, is_end: bool) {
        let index = context as usize;
        if context == 0 {
            return;
        }
        if self.uses.len() <= index {
            self.uses.resize(index + 1, 0);
        }
        if let Some(uses) = self.uses.get_mut(index) {
            *uses = match is_end {
                true => uses.saturating_sub(1),
                false => uses.saturating_add(1),
            };
        }
    }

    fn end(&mut self, state: &mut rmtls_request_state) {
        if !state.request.is_null() {
            self.states.remove(&(state.request as usize));
        }
        self.count_use(state.context, true);
        state.context = 0;
        if state.extra != 0 {
            self.ended.push(state.extra);
            state.extra = 0;
        }
    }
}

/// Runs `body` with the states. None of the functions here runs within another.
fn with_requests<T>(body: impl FnOnce(&mut Requests) -> Result<T, Error>) -> Result<T, Error> {
    REQUESTS
        .try_with(|requests| body(&mut *requests.try_borrow_mut().map_err(|_| Error::Panic)?))
        .map_err(|_| Error::Panic)?
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
            Some(state) => Ok(*state),
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
            if requests.states.contains_key(&(request as usize)) {
                return Err(Error::Misuse("request state: there is one".into()));
            }
            let new = rmtls_request_state {
                request,
                location: ptr::null(),
                changes: 0,
                context: 0,
                extra: 0,
                owner,
                is_listed: 0,
            };
            // SAFETY: the memory is the caller's alone, aligned, and has room for a state.
            unsafe { state.write(new) };
            requests.states.insert(request as usize, state);
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

/// Sets the context of a state, and the location in which it was set.
///
/// # Safety
/// `state` is NULL or a valid `rmtls_request_state`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_set_context(
    state: *mut rmtls_request_state,
    context: u32,
    location: *const c_void,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let state = unsafe { output(state)? };
        with_requests(|requests| {
            requests.count_use(context, false);
            requests.count_use(state.context, true);
            Ok(())
        })?;
        state.context = context;
        state.location = location;
        Ok(())
    })
}

/// Gives a state a number for a table of the caller for this request alone.
///
/// # Safety
/// `state` is NULL or a valid `rmtls_request_state`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_new_extra(state: *mut rmtls_request_state) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let state = unsafe { output(state)? };
        state.extra = with_requests(|requests| {
            requests.last_extra += 1;
            Ok(requests.last_extra)
        })?;
        Ok(())
    })
}

/// Writes the number `extra` of a request that has ended, each once; `RMTLS_NOT_FOUND` after the
/// last.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_ended_extra(out: *mut u64) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let out = unsafe { output(out)? };
        *out = with_requests(|requests| requests.ended.pop().ok_or(Error::NotFound))?;
        Ok(())
    })
}

/// Writes how many states have this context.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_request_state_uses(context: u32, out: *mut u32) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let out = unsafe { output(out)? };
        *out = with_requests(|requests| {
            Ok(requests.uses.get(context as usize).copied().unwrap_or(0))
        })?;
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::undocumented_unsafe_blocks)] // requests and cleanups of the test itself
mod tests {
    use super::*;
    use crate::ffi::{RMTLS_INVALID, RMTLS_NOT_FOUND, RMTLS_NULL_ARGUMENT, RMTLS_OK};

    /// A request with a cleanup, as nginx has them.
    struct Request {
        memory: Box<[u64; 8]>,
        cleanup: rmtls_nginx_cleanup,
    }

    impl Request {
        fn new() -> Request {
            let mut memory = Box::new([u64::MAX; 8]);
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

    fn uses(context: u32) -> u32 {
        let mut uses = u32::MAX;
        assert_eq!(
            unsafe { rmtls_request_state_uses(context, &mut uses) },
            RMTLS_OK
        );
        uses
    }

    fn ended_extra() -> Option<u64> {
        let mut number = 0;
        match unsafe { rmtls_request_state_ended_extra(&mut number) } {
            RMTLS_OK => Some(number),
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
        assert_eq!((state.context, state.extra, state.changes), (0, 0, 0));
        assert_eq!((state.owner, state.is_listed), (7, 0));
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
        let mut memory = [0_u64; 8];
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
    fn uses_of_a_context_are_counted() {
        let mut requests = [Request::new(), Request::new()];
        let location = requests.as_ptr().cast();
        for request in &mut requests {
            let state = request.begin().1;
            unsafe { rmtls_request_state_set_context(state, 3, location) };
            assert_eq!(
                unsafe { ((*state).context, (*state).location) },
                (3, location)
            );
        }
        assert_eq!((uses(3), uses(4), uses(u32::MAX)), (2, 0, 0));
        let [first, second] = &mut requests;
        unsafe {
            rmtls_request_state_set_context(first.find().1, 3, location);
            rmtls_request_state_set_context(second.find().1, 4, location);
        }
        assert_eq!((uses(3), uses(4)), (1, 1));
        first.end();
        second.end();
        assert_eq!((uses(3), uses(4)), (0, 0));
    }

    #[test]
    fn extra_of_an_ended_request_is_returned_once() {
        let mut requests = [Request::new(), Request::new()];
        let numbers = requests.each_mut().map(|request| {
            let state = request.begin().1;
            assert_eq!(unsafe { rmtls_request_state_new_extra(state) }, RMTLS_OK);
            unsafe { (*state).extra }
        });
        assert!(numbers[0] != 0 && numbers[1] > numbers[0]);
        assert_eq!(ended_extra(), None);
        requests[1].end();
        assert_eq!(ended_extra(), Some(numbers[1]));
        assert_eq!(ended_extra(), None);
        requests[0].end();
        assert_eq!(ended_extra(), Some(numbers[0]));
    }

    #[test]
    fn state_in_memory_of_the_caller_is_no_request() {
        let mut state = rmtls_request_state {
            request: ptr::null(),
            location: ptr::null(),
            changes: 0,
            extra: 0,
            context: 0,
            owner: 7,
            is_listed: 0,
        };
        unsafe {
            rmtls_request_state_set_context(&mut state, 9, ptr::null());
            rmtls_request_state_new_extra(&mut state);
        }
        assert_eq!(uses(9), 1);
        // Twice, as by a caller that ends it before its collector does.
        for _ in 0..2 {
            unsafe { rmtls_request_state_end(ptr::from_mut(&mut state).cast()) };
        }
        assert_eq!(uses(9), 0);
        assert!(ended_extra().is_some());
        assert_eq!(ended_extra(), None);
    }
}
