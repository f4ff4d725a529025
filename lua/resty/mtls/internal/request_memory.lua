-- Where nginx keeps the headers, the pool and the location of a request, in its memory: for what lua-nginx-module has
-- no function, or a slow one.
--
-- The list of headers is that of nginx's ABI for modules (ngx_list_t and ngx_table_elt_t). Where it begins in a request
-- depends on how nginx was built, and is found with the first request. Where the memory does not look as expected,
-- nothing is found, and the callers do without.

local ffi = require "ffi"
-- Declares the types of the library that this file reads.
require "resty.mtls.internal.library"
local raw_headers = require "resty.mtls.internal.raw_headers"


local N = ffi.C
local error = error
local ffi_cast = ffi.cast
local pcall = pcall
local tonumber = tonumber


-- Names of our own, because other Lua modules may declare nginx's with other types.
ffi.cdef [[
void *rmtls_nginx_palloc(void *pool, size_t size) __asm__("ngx_palloc");
rmtls_nginx_cleanup *rmtls_nginx_pool_cleanup_add(void *pool, size_t size) __asm__("ngx_pool_cleanup_add");
]]


-- Words of ngx_http_request_t in which the list may begin: headers_in follows some 13 pointers.
local FIRST, LAST = 8, 40
-- The word that is loc_conf, after the signature, connection, ctx, main_conf and srv_conf.
local LOCATION = 5
local WORD = ffi.sizeof("uintptr_t")
-- ngx_table_elt_t has since nginx 1.23 a pointer to the next header of its name.
local SIZE = ffi.sizeof("rmtls_nginx_header")
local SIZE_WITH_NEXT = SIZE + WORD
-- More headers than any request has.
local MAX_HEADERS = 2 ^ 20
-- In how many requests the list is looked for. Other code may have changed it in one of them.
local MAX_SEARCHES = 10


local bytes_type = ffi.typeof("uint8_t *")
local header_type = ffi.typeof("rmtls_nginx_header *")
local list_type = ffi.typeof("rmtls_nginx_list *")
local pointers_type = ffi.typeof("void **")
local words_type = ffi.typeof("uintptr_t *")
local can_allocate, nginx_palloc, nginx_pool_cleanup_add = pcall(function()
    return N.rmtls_nginx_palloc, N.rmtls_nginx_pool_cleanup_add
end)

-- Bytes from the begin of a request to its list, and words to its pool, once they are known.
local list_offset
local pool_word
local searches_left = can_allocate and MAX_SEARCHES or 0


local _M = {
    SIZE = SIZE,
    SIZE_WITH_NEXT = SIZE_WITH_NEXT,
}


local function is_address(word)
    return word >= 4096 and word % WORD == 0
end


-- The word of a request that is the pool of a list in its memory, or nil. The pool precedes the headers.
local function pool_before(words, at, pool)
    for i = 0, at - 1 do
        if words[i] == pool then
            return i
        end
    end
end


-- Whether the memory at this word may be a list of headers.
local function may_be_list(words, at)
    local list = ffi_cast(list_type, words + at)
    local size = list.header_size

    return (size == SIZE or size == SIZE_WITH_NEXT) and list.part.count <= MAX_HEADERS
           and list.capacity >= 1 and list.capacity <= MAX_HEADERS and is_address(words[at + 1])
           and list.pool ~= nil and pool_before(words, at, words[at + 6]) ~= nil
end


-- Whether it is the list of these headers. Over HTTP/3, lua-nginx-module puts a Host in front that is not in the list.
local function is_list_of(list, elements, count)
    if list.part.count < 1 then
        return false
    end

    local first = list.part.headers.name ~= elements[0].key.data and 1 or 0
    for i = 0, tonumber(list.part.count) - 1 do
        local header = ffi_cast(header_type, ffi_cast(bytes_type, list.part.headers) + i * tonumber(list.header_size))
        local element = i + first < count and elements[i + first]
        if not element or header.name ~= element.key.data or header.value ~= element.value.data then
            return false
        end
    end

    return true
end


-- Looks for the list in the memory of a request that has a header.
local function search(request)
    local elements, count = raw_headers(request)
    if count == 0 then
        return
    end

    searches_left = searches_left - 1
    local words = ffi_cast(words_type, request)
    for at = FIRST, LAST do
        if may_be_list(words, at) and is_list_of(ffi_cast(list_type, words + at), elements, count) then
            list_offset = at * WORD
            pool_word = pool_before(words, at, words[at + 6])
            searches_left = 0

            return
        end
    end
end


-- The pool of a request, or nil.
local function pool(request)
    if searches_left > 0 then
        search(request)
    end

    return pool_word and ffi_cast(pointers_type, request)[pool_word]
end


-- The list of the headers of a request, or nil.
function _M.header_list(request)
    local expected = pool(request)
    if not expected then
        return nil
    end

    local list = ffi_cast(list_type, ffi_cast(bytes_type, request) + list_offset)
    -- A request of HTTP/0.9 has none.
    if list.last == nil or list.pool ~= expected then
        return nil
    end

    return list
end


-- Whether an empty list begins at this word. `last` is the part in the list itself or, because nginx has copied the
-- words of the list for a subrequest, the part in the main request, which begins with the same signature and
-- connection.
local function is_empty_list(words, at)
    local list = ffi_cast(list_type, words + at)
    if not may_be_list(words, at) or list.part.count ~= 0 or list.part.next ~= nil or not is_address(words[at]) then
        return false
    end

    local owner = ffi_cast(words_type, words[at]) - at - 1

    return owner[0] == words[0] and owner[1] == words[1]
end


-- The list of a request without headers, also before that of another request was found; or nil. A request of HTTP/1.0
-- may have none, and all may have been removed; another empty list must not be taken for theirs.
function _M.empty_header_list(request)
    local list = _M.header_list(request)
    if list or list_offset or not can_allocate then
        return list
    end

    local words = ffi_cast(words_type, request)
    for at = FIRST, LAST do
        if is_empty_list(words, at) then
            if list then
                return nil
            end

            list = ffi_cast(list_type, words + at)
        end
    end

    return list
end


-- nginx's function for memory of a pool, or nil.
_M.palloc = can_allocate and ffi_cast("rmtls_nginx_palloc_function", nginx_palloc) or nil


-- The address of the pool of a request, which its subrequests share; nil where it is not known.
function _M.pool_address(request)
    local of_request = pool(request)

    return of_request and tonumber(ffi_cast("uintptr_t", of_request))
end


-- Memory of a pool, or NULL.
function _M.allocate(of_pool, size)
    return nginx_palloc(of_pool, size)
end


-- Memory that lives as long as the request, or nil where its pool is not known.
function _M.allocate_for(request, size)
    local of_request = pool(request)
    if not of_request then
        return nil
    end

    local memory = nginx_palloc(of_request, size)
    if memory == nil then
        error("nginx has no memory for what is remembered about a request")
    end

    return memory
end


-- A cleanup of the request's pool with memory of this size, or nil where the pool is not known.
function _M.add_cleanup(request, size)
    local of_request = pool(request)
    if not of_request then
        return nil
    end

    local cleanup = nginx_pool_cleanup_add(of_request, size)
    if cleanup == nil then
        error("nginx has no memory for the state of a request")
    end

    return cleanup
end


-- The address of the configuration of the location in which a request is.
function _M.location(request)
    return ffi_cast(pointers_type, request)[LOCATION]
end


return _M
