-- Finds libresty_mtls.so, checks that it fits, and turns its statuses into Lua's three answers:
-- misuse raises, failure is nil and a text, absence is nil.

local ffi = require "ffi"
local STATUS = require "resty.mtls.internal.cdef"


local error = error
local ffi_str = ffi.string
local pcall = pcall
local tonumber = tonumber


local FILE = "libresty_mtls.so"
local OK = STATUS.OK
local TOO_SMALL = STATUS.TOO_SMALL
local NOT_FOUND = STATUS.NOT_FOUND
local ERROR_SIZE = 1024
local TEXTS = {
    [STATUS.NULL_ARGUMENT] = "NULL argument",
    [STATUS.INVALID] = "invalid argument",
    [STATUS.PANIC] = "internal error",
    [STATUS.OPENSSL] = "OpenSSL error",
    [STATUS.HOST] = "wrong OpenSSL",
}


local function load_library()
    local tried = {}

    for template in package.cpath:gmatch("[^;]+") do
        local path = (template:match("^(.*/)[^/]*$") or "./") .. FILE
        local file = io.open(path, "rb")
        if file then
            file:close()
            local ok, clib = pcall(ffi.load, path)
            if ok then
                return clib
            end

            tried[#tried + 1] = path .. ": " .. clib
        else
            tried[#tried + 1] = path .. ": no such file"
        end
    end

    error("resty.mtls: cannot load " .. FILE .. "; set lua_package_cpath to its directory, tried:\n\t"
          .. table.concat(tried, "\n\t"), 0)
end


local C = load_library()


local _M = {
    C = C,
    _VERSION = "0.1.0",
}


local found = C.rmtls_abi_version()
if found ~= STATUS.ABI_VERSION then
    error("resty.mtls: " .. FILE .. " has ABI version " .. found .. ", expected " .. STATUS.ABI_VERSION
          .. "; install Lua modules and library of the same release", 0)
end


local buf_type = ffi.typeof("rmtls_buf")
local bytes_type = ffi.typeof("uint8_t[?]")
-- The struct holds a bare pointer, which the garbage collector does not see.
local memory_of = setmetatable({}, { __mode = "k" })


-- A buffer of its own for each use: a shared one would be overwritten by a nested call.
local function buffer(size)
    local memory = bytes_type(size)
    local buf = buf_type(memory, size, 0)
    memory_of[buf] = memory

    return buf
end
_M.buffer = buffer


local function text(buf)
    return ffi_str(buf.data, buf.len)
end
_M.text = text


local function failure(what, status, err)
    if err and err.len > 0 then
        return nil, what .. ": " .. text(err)
    end

    return nil, what .. ": " .. (TEXTS[status] or "unknown status " .. status)
end
_M.failure = failure


-- Calls call(err) and answers true, or nil, the text that the library put into err, and the status.
-- A text of over size bytes (default 1024) is cut.
function _M.try(what, call, size)
    local err = buffer(size or ERROR_SIZE)
    local status = call(err)
    if status == OK then
        return true
    end

    local _, message = failure(what, status, err)

    return nil, message, status
end


local KEPT_SIZE = 8192
local kept_a, kept_b = buffer(KEPT_SIZE), buffer(KEPT_SIZE)
local kept_in_use = false


-- Calls read(a[, b]) with growing buffers; answers one or two strings, nil when there is nothing,
-- or nil and a text. read must not yield.
function _M.read(what, read, two)
    local size = KEPT_SIZE
    while true do
        -- A nested call, and one after a call that raised, get buffers of their own.
        local mine = not kept_in_use and size == KEPT_SIZE
        local a = mine and kept_a or buffer(size)
        local b = two and (mine and kept_b or buffer(size))
        a.len = 0
        if b then
            b.len = 0
        end

        kept_in_use = kept_in_use or mine
        local status = read(a, b)
        if mine then
            kept_in_use = false
        end

        if status == OK then
            return text(a), b and text(b)
        end

        if status == NOT_FOUND then
            return nil
        end

        if status ~= TOO_SMALL then
            return failure(what, status)
        end

        size = math.max(tonumber(a.len), b and tonumber(b.len) or 0, 2 * size)
    end
end


-- A handle that frees itself. The closure keeps the library's table alive as long as the handle.
function _M.handle(type_name, make, free)
    local out = ffi.new(type_name .. "*[1]")
    local status = make(out)
    if status ~= OK then
        return nil, status
    end

    return ffi.gc(out[0], function(pointer)
        free(pointer)
    end)
end


if ngx and ngx.config then
    local err = buffer(1024)
    if C.rmtls_host_check(err) ~= OK then
        error("resty.mtls: " .. text(err), 0)
    end
end


return _M
