-- nginx's list of the headers of a request, in its memory.
--
-- lua-nginx-module's function for a request header compares the name with all headers of the request and reads each
-- byte of the value for characters to escape. For the upstream headers of a client, which the library has checked
-- once, that is most of what they cost a request.
--
-- The list is that of nginx's ABI for modules (ngx_list_t and ngx_table_elt_t). Where it begins in a request depends on
-- how nginx was built, and is found with the first request. Where the memory does not look as expected, there is no
-- list, and lua-nginx-module's function serves.

local ffi = require "ffi"
local base = require "resty.core.base"
local library = require "resty.mtls.internal.library"
local raw_headers = require "resty.mtls.internal.raw_headers"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local N = ffi.C
local OK = CONST.OK
local ffi_cast = ffi.cast
local get_request = base.get_request
local pcall = pcall
local tonumber = tonumber


-- A name of our own, because other Lua modules may declare nginx's with other types.
ffi.cdef [[
void *rmtls_nginx_request_memory(void *pool, size_t size) __asm__("ngx_palloc");
]]


-- Words of ngx_http_request_t in which the list may begin: headers_in follows some 13 pointers.
local FIRST, LAST = 8, 40
local WORD = ffi.sizeof("uintptr_t")
-- ngx_table_elt_t has since nginx 1.23 a pointer to the next header of its name.
local SIZE = ffi.sizeof("rmtls_nginx_header")
local SIZE_WITH_NEXT = SIZE + WORD
local PART_SIZE = ffi.sizeof("rmtls_nginx_list_part")
-- More headers than any request has.
local MAX_HEADERS = 2 ^ 20
-- In how many requests the list is looked for. Other code may have changed it in one of them.
local MAX_SEARCHES = 10


local bytes_type = ffi.typeof("uint8_t *")
local header_type = ffi.typeof("rmtls_nginx_header *")
local list_type = ffi.typeof("rmtls_nginx_list *")
local pointers_type = ffi.typeof("void **")
local words_type = ffi.typeof("uintptr_t *")
local can_append = pcall(function() return N.rmtls_nginx_request_memory end)

-- Bytes from the begin of a request to its list, and words to its pool, once they are known.
local list_offset
local pool_word
local searches_left = can_append and MAX_SEARCHES or 0


local _M = {}


-- The word of a request that is the pool of a list in its memory, or nil. The pool precedes the headers.
local function pool_before(words, at, pool)
    for i = 0, at - 1 do
        if words[i] == pool then
            return i
        end
    end
end


-- Whether the memory at this address is the list of these headers. Over HTTP/3, lua-nginx-module puts a Host in front
-- that is not in the list.
local function is_list_of(list, elements, count)
    local size = tonumber(list.header_size)
    if size ~= SIZE and size ~= SIZE_WITH_NEXT or list.part.count < 1 or list.part.count > MAX_HEADERS
        or list.capacity < 1 or list.capacity > MAX_HEADERS or list.pool == nil
    then
        return false
    end

    local address = ffi_cast("uintptr_t", list.part.headers)
    if address < 4096 or address % WORD ~= 0 then
        return false
    end

    local first = list.part.headers.name ~= elements[0].key.data and 1 or 0
    for i = 0, tonumber(list.part.count) - 1 do
        local header = ffi_cast(header_type, ffi_cast(bytes_type, list.part.headers) + i * size)
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
        local list = ffi_cast(list_type, words + at)
        local pool = list.pool ~= nil and pool_before(words, at, words[at + 6])
        if pool and is_list_of(list, elements, count) then
            list_offset = at * WORD
            pool_word = pool
            searches_left = 0

            return
        end
    end
end


-- The list of a request, or nil.
local function list_of(request)
    if searches_left > 0 then
        search(request)
    end

    if not list_offset then
        return nil
    end

    local list = ffi_cast(list_type, ffi_cast(bytes_type, request) + list_offset)
    -- A request of HTTP/0.9 has none.
    if list.last == nil or list.pool ~= ffi_cast(pointers_type, request)[pool_word] then
        return nil
    end

    return list
end


-- Appends this many of the lines of an rmtls_lines, none of whose names the request has. Returns whether it did. Has no
-- loop, because a loop that is compiled leaves all that follows it in the request to the interpreter.
function _M.append(lines, count)
    local list = lines.may_append == 1 and list_of(get_request())
    if not list then
        return false
    end

    local size = lines.ends[3 * count - 1]
    if list.last.count + count > list.capacity then
        if list.capacity < count then
            return false
        end

        size = size + PART_SIZE + tonumber(list.capacity * list.header_size)
    end

    local memory = N.rmtls_nginx_request_memory(list.pool, size)

    return memory ~= nil and C.rmtls_header_list_append(list, lines, count, memory, size) == OK
end


return _M
