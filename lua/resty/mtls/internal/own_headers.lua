-- Gives a subrequest request headers of its own. nginx has a subrequest share the memory of the list with its main
-- request, so that a header that is set or removed in one may change, add or lose headers of the other, or leave a list
-- of wrong length. Only ngx.location.capture copies the list.
--
-- lua-nginx-module has no function for it, so the list is found in nginx's memory. Where that does not look as
-- expected, the subrequest is refused before anything is changed.

local ffi = require "ffi"
local base = require "resty.core.base"
local raw_headers = require "resty.mtls.internal.raw_headers"


local C = ffi.C
local ffi_cast = ffi.cast
local ffi_copy = ffi.copy
local get_request = base.get_request
local ngx = ngx
local ngx_log = ngx.log
local tonumber = tonumber


-- A name of our own, because other Lua modules may declare nginx's with other types.
ffi.cdef [[
void *rmtls_nginx_palloc(void *pool, size_t size) __asm__("ngx_palloc");
]]


-- Words of ngx_http_request_t in which the list may begin: headers_in follows some 13 pointers.
local FIRST, LAST = 8, 40
-- Words after the list in which headers_in has pointers to single headers.
local POINTERS = 60
local WORD = ffi.sizeof("uintptr_t")
-- Sizes of ngx_table_elt_t before nginx 1.23 and since, and where the latter has the pointer to the next of its name.
local ELEMENT_SIZES = { [6 * WORD] = true, [7 * WORD] = true }
local NEXT = 6
-- More headers than any request has.
local MAX_HEADERS = 2 ^ 20
-- Headers for which nginx has room in a new list.
local ROOM = 20


local words = ffi.typeof("uintptr_t *")
local has_palloc = pcall(function() return C.rmtls_nginx_palloc end)


local _M = {}


local function is_address(word)
    return word >= 4096 and word % WORD == 0
end


-- Whether ngx_list_t { last, part { elts, nelts, next }, size, nalloc, pool } with headers in the memory pool of the
-- request may begin at this word.
local function may_be_list(request, at)
    local pool = request[at + 6]
    if not ELEMENT_SIZES[tonumber(request[at + 4])] or request[at + 2] > MAX_HEADERS
        or request[at + 5] > MAX_HEADERS or not is_address(request[at + 1]) or pool == 0
    then
        return false
    end

    -- The pool precedes the headers.
    for i = 0, at - 1 do
        if request[i] == pool then
            return true
        end
    end

    return false
end


-- Whether the list of request headers begins at this word: its first element { hash, key { len, data }, ... } is the
-- first header.
local function is_list(request, at, first_name)
    return may_be_list(request, at) and request[at + 2] >= 1
           and ffi_cast(words, request[at + 1])[2] == first_name
end


-- Whether a list without elements begins at this word. `last` is the part in the list itself or, because nginx has
-- copied the words of the list, the part in the main request, which begins with the same signature and connection.
local function is_empty_list(request, at)
    local last = request[at]
    if not may_be_list(request, at) or request[at + 2] ~= 0 or request[at + 3] ~= 0 or not is_address(last) then
        return false
    end

    local owner = ffi_cast(words, last) - at - 1

    return owner[0] == request[0] and owner[1] == request[1]
end


-- The address in the copy of a header at this address, or nil.
local function moved(parts, address, size)
    for i = 1, #parts do
        local part = parts[i]
        local offset = address - part.from
        if address >= part.from and offset < part.bytes and offset % size == 0 then
            return part.to + offset
        end
    end
end


local function copy_list(request, at)
    local size, pool = request[at + 4], request[at + 6]
    local parts, bytes = {}, 0
    local part = request + at + 1
    while part ~= nil do
        local length = tonumber(part[1] * size)
        parts[#parts + 1] = { from = part[0], bytes = length }
        bytes = bytes + length
        part = ffi_cast(words, part[2])
    end

    local copy = C.rmtls_nginx_palloc(ffi_cast("void *", pool), bytes)
    if copy == nil then
        return false
    end

    local to = ffi_cast("uintptr_t", copy)
    for i = 1, #parts do
        parts[i].to = to
        ffi_copy(ffi_cast("char *", to), ffi_cast("char *", parts[i].from), parts[i].bytes)
        to = to + parts[i].bytes
    end

    local count = bytes / tonumber(size)
    request[at] = ffi_cast("uintptr_t", request + at + 1)
    request[at + 1] = ffi_cast("uintptr_t", copy)
    request[at + 2] = count
    request[at + 3] = 0
    -- The list is full: a new header begins another part.
    request[at + 5] = count
    for i = at + 7, at + 6 + POINTERS do
        request[i] = moved(parts, request[i], size) or request[i]
    end

    if size == 7 * WORD then
        local elements = ffi_cast(words, copy)
        for i = NEXT, 7 * count - 1, 7 do
            elements[i] = moved(parts, elements[i], size) or elements[i]
        end
    end

    return true
end


-- Gives a list without elements memory of its own for new ones.
local function renew_empty_list(request, at)
    local elements = C.rmtls_nginx_palloc(ffi_cast("void *", request[at + 6]), ROOM * request[at + 4])
    if elements == nil then
        return false
    end

    request[at] = ffi_cast("uintptr_t", request + at + 1)
    request[at + 1] = ffi_cast("uintptr_t", elements)
    request[at + 5] = ROOM

    return true
end


-- The word at which the list of request headers begins, or nil. A request of HTTP/1.0 may have none, and all may have
-- been removed; another empty list must not be taken for theirs. first: the index of the first header of the list.
local function find_list(request, elements, count, first)
    local first_name = count > first and ffi_cast("uintptr_t", elements[first].key.data)
    local found
    for at = FIRST, LAST do
        if first_name and is_list(request, at, first_name) then
            return at
        end

        if not first_name and is_empty_list(request, at) then
            if found then
                return nil
            end

            found = at
        end
    end

    return found
end


-- Call it before request headers are set or removed. Ends a subrequest whose headers cannot be copied.
function _M.ensure()
    if not ngx.is_subrequest then
        return
    end

    local request = get_request()
    local elements, count = raw_headers(request)
    local address = ffi_cast(words, request)
    local first = 0
    local at = has_palloc and find_list(address, elements, count, first)
    -- Over HTTP/3, lua-nginx-module puts a Host in front that is not in the list.
    if has_palloc and not at and count > 0 and elements[0].key.len == 4 then
        first = 1
        at = find_list(address, elements, count, first)
    end

    if at and (count > first and copy_list or renew_empty_list)(address, at) then
        return
    end

    ngx_log(ngx.ERR, "[mtls] 500 the request headers of a subrequest cannot be copied")

    return ngx.exit(500)
end


return _M
