//! nginx's list of the headers of a request, to which header lines are appended.

use std::ffi::c_void;
use std::mem::size_of;
use std::ptr;

use super::access::rmtls_lines;
use super::{guard_without_openssl, handle, output, request_state};
use crate::Error;

/// The begin of `ngx_table_elt_t`. Since nginx 1.23 a pointer to the next header of the same name
/// follows, `NULL` for the last.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rmtls_nginx_header {
    /// Hash of the name in lower case.
    pub hash: usize,
    /// Bytes of the name.
    pub name_len: usize,
    /// The name.
    pub name: *const u8,
    /// Bytes of the value.
    pub value_len: usize,
    /// The value.
    pub value: *const u8,
    /// The name in lower case.
    pub lower_case_name: *const u8,
}

/// `ngx_list_part_t`.
#[repr(C)]
pub struct rmtls_nginx_list_part {
    /// Memory for as many headers as the list has in each part, `header_size` bytes each.
    pub headers: *mut rmtls_nginx_header,
    /// How many of them are there.
    pub count: usize,
    /// The part after this one, or `NULL`.
    pub next: *mut rmtls_nginx_list_part,
}

/// `ngx_list_t`, of `ngx_table_elt_t`.
#[repr(C)]
pub struct rmtls_nginx_list {
    /// The part to which headers are appended.
    pub last: *mut rmtls_nginx_list_part,
    /// The first part.
    pub part: rmtls_nginx_list_part,
    /// Bytes of a header.
    pub header_size: usize,
    /// Headers in a part.
    pub capacity: usize,
    /// The pool of the request.
    pub pool: *mut c_void,
}

const WITH_NEXT: usize = size_of::<rmtls_nginx_header>() + size_of::<usize>();

/// `ngx_palloc`: memory of a pool, aligned for a pointer, or `NULL`.
pub type rmtls_nginx_palloc_function =
    Option<unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void>;

/// Appends the first `count` of these lines, whose `may_append` is 1, to the headers of `request`,
/// which has none of their names, and a state of `rmtls_request_state_begin`. The headers point to
/// the lines, which are kept as long as the state; `palloc` gets memory for another part of the list
/// where the last one has no room. On an error nothing is changed: `RMTLS_INVALID` if there is no
/// state, no room or no memory.
///
/// # Safety
/// `list` is NULL or the list of `request`, which is live, with its last part; `lines` is NULL or
/// valid, with at least `count` lines; `palloc` is NULL or nginx's function. What reads the headers
/// does not write into them.
#[no_mangle]
pub unsafe extern "C" fn rmtls_header_list_append(
    list: *mut rmtls_nginx_list,
    lines: *const rmtls_lines,
    count: u32,
    palloc: rmtls_nginx_palloc_function,
    request: *const c_void,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (list, lines) = (output(list)?, handle(lines)?);
            append(list, lines, count as usize, palloc, request)
        }
    })
}

/// # Safety
/// As [`rmtls_header_list_append`].
unsafe fn append(
    list: &mut rmtls_nginx_list,
    lines: &rmtls_lines,
    count: usize,
    palloc: rmtls_nginx_palloc_function,
    request: *const c_void,
) -> Result<(), Error> {
    let misuse = |what: &str| Err(Error::Misuse(format!("header list: {what}")));
    if count == 0 {
        return Ok(());
    }
    if lines.may_append != 1 || count > (lines.always + lines.forwarding) as usize {
        return misuse("these lines must be set one by one");
    }
    let has_next = match list.header_size {
        WITH_NEXT => true,
        size if size == size_of::<rmtls_nginx_header>() => false,
        _ => return misuse("headers of another size"),
    };
    if list.last.is_null() {
        return Err(Error::NullArgument);
    }
    let Some(palloc) = palloc else {
        return Err(Error::NullArgument);
    };
    // SAFETY: lines of the library have three ends, and a hash, each. The last part is the caller's
    // promise.
    let (ends, hashes, last) = unsafe {
        (
            std::slice::from_raw_parts(lines.ends, 3 * count),
            std::slice::from_raw_parts(lines.hashes, count),
            &mut *list.last,
        )
    };
    let has_room = last.count <= list.capacity && count <= list.capacity - last.count;
    if count > list.capacity {
        return misuse("more lines than a part has room for");
    }
    let mut new_part = ptr::null_mut::<rmtls_nginx_list_part>();
    if !has_room {
        let size = size_of::<rmtls_nginx_list_part>() + list.capacity * list.header_size;
        // SAFETY: nginx's function, and the pool of its request.
        new_part = unsafe { palloc(list.pool, size) }.cast();
        if new_part.is_null() || !new_part.is_aligned() {
            return misuse("no memory");
        }
    }
    // SAFETY: the caller's promise: the lines are valid.
    request_state::keep_lines(request, unsafe { lines.kept()? })?;
    let bytes = lines.bytes;
    let part = match has_room {
        true => last,
        false => {
            let part = new_part;
            // SAFETY: the memory is aligned and has room for a part and the headers after it. The
            // list has it from here on, which the caller promises to keep alive.
            unsafe {
                part.write(rmtls_nginx_list_part {
                    headers: part.add(1).cast(),
                    count: 0,
                    next: ptr::null_mut(),
                });
                last.next = part;
                list.last = part;
                &mut *part
            }
        }
    };
    let mut from = 0;
    for (ends, hash) in ends.chunks_exact(3).zip(hashes) {
        let &[name_end, value_end, end] = ends else {
            return Err(Error::Panic);
        };
        let (name_end, value_end) = (name_end as usize, value_end as usize);
        // SAFETY: the part has room for `count` headers more, and the offsets are within the bytes,
        // which live as long as the request.
        unsafe {
            let header = part.headers.byte_add(part.count * list.header_size);
            header.write(rmtls_nginx_header {
                hash: *hash,
                name_len: name_end - from,
                name: bytes.add(from),
                value_len: value_end - name_end - 1,
                value: bytes.add(name_end + 1),
                lower_case_name: bytes.add(value_end + 1),
            });
            if has_next {
                header.add(1).cast::<*mut c_void>().write(ptr::null_mut());
            }
        }
        part.count += 1;
        from = end as usize;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::undocumented_unsafe_blocks)] // lists and lines of the test itself
mod tests {
    use super::*;
    use crate::engine::{HeaderLine, LineKind, PackedLines};
    use crate::ffi::request_state::{
        rmtls_nginx_cleanup, rmtls_request_state, rmtls_request_state_begin,
        rmtls_request_state_end, rmtls_request_state_keep_lines, rmtls_request_state_line_name,
    };
    use crate::ffi::{rmtls_buf, RMTLS_INVALID, RMTLS_NOT_FOUND, RMTLS_NULL_ARGUMENT, RMTLS_OK};
    use std::rc::Rc;

    /// A request with a state, which ends with it.
    struct Request {
        state: Box<[u64; size_of::<rmtls_request_state>().div_ceil(8)]>,
    }

    impl Request {
        fn new() -> Request {
            let mut state = Box::new([0; size_of::<rmtls_request_state>().div_ceil(8)]);
            let mut cleanup = rmtls_nginx_cleanup {
                handler: ptr::null(),
                data: state.as_mut_ptr().cast(),
                next: ptr::null_mut(),
            };
            let (request, mut found) = (state.as_ptr().cast(), ptr::null_mut());
            let status = unsafe { rmtls_request_state_begin(request, 1, &mut cleanup, &mut found) };
            assert_eq!(status, RMTLS_OK);
            Request { state }
        }

        fn address(&self) -> *const c_void {
            self.state.as_ptr().cast()
        }
    }

    impl Drop for Request {
        fn drop(&mut self) {
            unsafe { rmtls_request_state_end(self.state.as_mut_ptr().cast()) };
        }
    }

    /// A list whose first part has `count` headers already, all zero.
    struct List {
        _headers: Vec<usize>,
        pool: Box<Pool>,
        list: Box<rmtls_nginx_list>,
        request: Request,
    }

    /// Memory for one allocation.
    struct Pool {
        memory: Vec<usize>,
        /// Where the memory begins, in bytes.
        from: usize,
        allocated: Option<usize>,
    }

    unsafe extern "C" fn palloc(pool: *mut c_void, size: usize) -> *mut c_void {
        let pool = unsafe { &mut *pool.cast::<Pool>() };
        assert_eq!(pool.allocated.replace(size), None);
        match size + pool.from > 8 * pool.memory.len() {
            true => ptr::null_mut(),
            false => pool.memory.as_mut_ptr().wrapping_byte_add(pool.from).cast(),
        }
    }

    impl List {
        fn new(header_size: usize, capacity: usize, count: usize) -> List {
            let mut headers = vec![0_usize; capacity * header_size / size_of::<usize>()];
            let part = rmtls_nginx_list_part {
                headers: headers.as_mut_ptr().cast(),
                count,
                next: ptr::null_mut(),
            };
            let mut pool = Box::new(Pool {
                memory: vec![usize::MAX; 400],
                from: 0,
                allocated: None,
            });
            let mut list = Box::new(rmtls_nginx_list {
                last: ptr::null_mut(),
                part,
                header_size,
                capacity,
                pool: ptr::from_mut(&mut *pool).cast(),
            });
            list.last = &mut list.part;
            List {
                _headers: headers,
                pool,
                list,
                request: Request::new(),
            }
        }

        fn append(&mut self, lines: &rmtls_lines, count: u32) -> i32 {
            let (list, request) = (&mut *self.list, self.request.address());
            unsafe { rmtls_header_list_append(list, lines, count, Some(palloc), request) }
        }

        /// The headers, and whether each has a next one.
        fn headers(&self) -> Vec<(rmtls_nginx_header, usize)> {
            let mut found = Vec::new();
            let mut part: *const rmtls_nginx_list_part = &self.list.part;
            while let Some(this) = unsafe { part.as_ref() } {
                for index in 0..this.count {
                    let header = unsafe { this.headers.byte_add(index * self.list.header_size) };
                    let next = match self.list.header_size {
                        WITH_NEXT => unsafe { *header.add(1).cast::<usize>() },
                        _ => 0,
                    };
                    found.push((unsafe { *header }, next));
                }
                part = this.next;
            }
            found
        }
    }

    fn lines(values: &[(&str, &str)]) -> Rc<PackedLines> {
        let line = |(name, value): &(&str, &str)| HeaderLine {
            kind: LineKind::Always,
            name: (*name).to_owned().into(),
            value: (*value).to_owned(),
        };
        Rc::new(PackedLines::new(values.iter().map(line).collect()))
    }

    fn text(data: *const u8, len: usize) -> String {
        let bytes = unsafe { std::slice::from_raw_parts(data, len) };
        assert_eq!(unsafe { *data.add(len) }, 0, "NUL byte after the text");
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn append_writes_headers_as_nginx_reads_them() {
        let lines = lines(&[("X-Client-Cert", "a"), ("X-Client-Cert-Serial", "0102")]);
        let lines = rmtls_lines::new(&lines);
        for size in [48, WITH_NEXT] {
            // Without room in the first part, in a part of their own.
            for (capacity, before) in [(20, 0), (20, 18), (20, 19), (20, 20), (2, 1)] {
                let mut list = List::new(size, capacity, before);
                assert_eq!(list.append(&lines, 2), RMTLS_OK);
                let headers = list.headers();
                assert_eq!(headers.len(), before + 2);
                let last = unsafe { &*list.list.last };
                assert!(last.next.is_null() && last.count <= capacity);
                let texts: Vec<_> = headers[before..]
                    .iter()
                    .map(|(header, next)| {
                        assert_eq!(*next, 0);
                        (
                            text(header.name, header.name_len),
                            text(header.value, header.value_len),
                            text(header.lower_case_name, header.name_len),
                        )
                    })
                    .collect();
                let text = |text: &str| text.to_owned();
                assert_eq!(
                    texts,
                    [
                        (text("X-Client-Cert"), text("a"), text("x-client-cert")),
                        (
                            text("X-Client-Cert-Serial"),
                            text("0102"),
                            text("x-client-cert-serial")
                        ),
                    ]
                );
                let hash = crate::headers::list_entry::name_hash(b"x-client-cert");
                assert_eq!(headers[before].0.hash, hash);
            }
        }
    }

    #[test]
    fn lines_are_kept_until_the_requests_end() {
        let kept = lines(&[("X-A", "a")]);
        let more = lines(&[("X-B", "b")]);
        let count = || (Rc::strong_count(&kept), Rc::strong_count(&more));
        let (mut first, mut second) = (List::new(48, 20, 0), List::new(48, 20, 0));
        for list in [&mut first, &mut second] {
            // Once more, as after a change of the policy and back.
            for lines in [&kept, &more, &kept] {
                assert_eq!(list.append(&rmtls_lines::new(lines), 1), RMTLS_OK);
            }
        }
        assert_eq!(count(), (3, 3));
        drop(first);
        assert_eq!(count(), (2, 2));
        drop(second);
        assert_eq!(count(), (1, 1));
    }

    #[test]
    fn names_of_kept_lines_are_those_that_were_set() {
        let (kept, more) = (lines(&[("X-A", "a"), ("X-B", "b")]), lines(&[("X-C", "c")]));
        let mut list = List::new(48, 20, 0);
        let names = |request| {
            let mut found = Vec::new();
            loop {
                let mut name = [0; 3];
                let mut out = rmtls_buf {
                    data: name.as_mut_ptr(),
                    len: 0,
                    cap: name.len(),
                };
                match unsafe { rmtls_request_state_line_name(request, found.len(), &mut out) } {
                    RMTLS_OK => found.push(String::from_utf8(name.to_vec()).unwrap()),
                    status => {
                        assert_eq!(status, RMTLS_NOT_FOUND);
                        return found;
                    }
                }
            }
        };
        assert!(names(list.request.address()).is_empty());
        assert_eq!(list.append(&rmtls_lines::new(&kept), 2), RMTLS_OK);
        assert_eq!(names(list.request.address()), ["X-A", "X-B"]);
        let status = unsafe {
            rmtls_request_state_keep_lines(list.request.address(), &rmtls_lines::new(&more))
        };
        assert_eq!(status, RMTLS_OK);
        assert_eq!(names(list.request.address()), ["X-A", "X-B", "X-C"]);
        assert!(names(ptr::null()).is_empty());
    }

    #[test]
    fn append_changes_nothing_where_it_cannot() {
        let packed = lines(&[("X-A", "a"), ("X-B", "b"), ("X-C", "c")]);
        let lines = rmtls_lines::new(&packed);
        let append = |list: &mut List, lines: &rmtls_lines, count| {
            (
                list.append(lines, count),
                list.headers().len(),
                list.pool.allocated.is_some(),
            )
        };
        let new = || List::new(WITH_NEXT, 20, 1);
        let full = || List::new(WITH_NEXT, 3, 3);
        assert_eq!(append(&mut new(), &lines, 3), (RMTLS_OK, 4, false));
        assert_eq!(append(&mut full(), &lines, 3), (RMTLS_OK, 6, true));
        assert_eq!(append(&mut new(), &lines, 0), (RMTLS_OK, 1, false));
        // More lines than there are, or than a part has room for.
        let invalid = (RMTLS_INVALID, 1, false);
        assert_eq!(append(&mut new(), &lines, 4), invalid);
        assert_eq!(append(&mut List::new(WITH_NEXT, 2, 1), &lines, 3), invalid);
        // No memory, or memory that is not aligned.
        let mut list = full();
        list.pool.memory.clear();
        assert_eq!(append(&mut list, &lines, 3), (RMTLS_INVALID, 3, true));
        let mut list = full();
        list.pool.from = 1;
        assert_eq!(append(&mut list, &lines, 3), (RMTLS_INVALID, 3, true));
        let mut list = new();
        let (request, list) = (list.request.address(), &mut *list.list);
        let status = unsafe { rmtls_header_list_append(list, &lines, 3, None, request) };
        assert_eq!(status, RMTLS_NULL_ARGUMENT);
        assert_eq!(append(&mut List::new(64, 20, 1), &lines, 3), invalid);
        let set = rmtls_lines {
            may_append: 0,
            ..lines
        };
        assert_eq!(append(&mut new(), &set, 3), invalid);
        let ownerless = rmtls_lines {
            owner: ptr::null(),
            ..lines
        };
        assert_eq!(
            append(&mut new(), &ownerless, 3),
            (RMTLS_NULL_ARGUMENT, 1, false)
        );
        // A request without a state.
        let mut list = new();
        unsafe { rmtls_request_state_end(list.request.state.as_mut_ptr().cast()) };
        assert_eq!(append(&mut list, &lines, 3), invalid);
        assert_eq!(Rc::strong_count(&packed), 1);
    }
}
