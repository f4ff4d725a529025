-- Gives a subrequest request headers of its own. nginx has a subrequest share the memory of the list with its main
-- request, so that a header that is set or removed in one may change, add or lose headers of the other, or leave a list
-- of wrong length. Only ngx.location.capture copies the list.
--
-- lua-nginx-module has no function for it, so the list is found in nginx's memory. Where that does not look as
-- expected, the subrequest is refused before anything is changed.

local ffi = require "ffi"
local base = require "resty.core.base"
local request_memory = require "resty.mtls.internal.request_memory"


local ffi_cast = ffi.cast
local ffi_copy = ffi.copy
local get_request = base.get_request
local ngx = ngx
local ngx_log = ngx.log
local tonumber = tonumber


-- Words of ngx_list_t.
local LIST = 7
-- Words after the list in which headers_in has pointers to single headers.
local POINTERS = 60
local WORD = ffi.sizeof("uintptr_t")
-- Where an element has the pointer to the next of its name.
local NEXT = 6
-- Headers for which nginx has room in a new list.
local ROOM = 20


local words = ffi.typeof("uintptr_t *")


local _M = {}


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


local function copy_list(list)
    local size = tonumber(list.header_size)
    local parts, bytes = {}, 0
    local part = list.part
    while part ~= nil do
        local length = tonumber(part.count) * size
        parts[#parts + 1] = { from = ffi_cast("uintptr_t", part.headers), bytes = length }
        bytes = bytes + length
        part = part.next
    end

    local copy = request_memory.allocate(list.pool, bytes)
    if copy == nil then
        return false
    end

    local to = ffi_cast("uintptr_t", copy)
    for i = 1, #parts do
        parts[i].to = to
        ffi_copy(ffi_cast("char *", to), ffi_cast("char *", parts[i].from), parts[i].bytes)
        to = to + parts[i].bytes
    end

    local count = bytes / size
    list.last = list.part
    list.part.headers = copy
    list.part.count = count
    list.part.next = nil
    -- The list is full: a new header begins another part.
    list.capacity = count
    local pointers = ffi_cast(words, list) + LIST
    for i = 0, POINTERS - 1 do
        pointers[i] = moved(parts, pointers[i], size) or pointers[i]
    end

    if size == request_memory.SIZE_WITH_NEXT then
        local elements = ffi_cast(words, copy)
        for i = NEXT, size / WORD * count - 1, size / WORD do
            elements[i] = moved(parts, elements[i], size) or elements[i]
        end
    end

    return true
end


-- Gives a list without elements memory of its own for new ones.
local function renew_empty_list(list)
    local elements = request_memory.allocate(list.pool, ROOM * tonumber(list.header_size))
    if elements == nil then
        return false
    end

    list.last = list.part
    list.part.headers = elements
    list.capacity = ROOM

    return true
end


-- Call it before request headers are set or removed. Ends a subrequest whose headers cannot be copied.
function _M.ensure()
    if not ngx.is_subrequest then
        return
    end

    local request = get_request()
    local list = request_memory.header_list(request)
    if list and list.part.count > 0 and copy_list(list) then
        return
    end

    list = list or request_memory.empty_header_list(request)
    if list and list.part.count == 0 and list.part.next == nil and renew_empty_list(list) then
        return
    end

    ngx_log(ngx.ERR, "[mtls] 500 the request headers of a subrequest cannot be copied")

    return ngx.exit(500)
end


return _M
