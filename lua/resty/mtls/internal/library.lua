-- Finds and loads libresty_mtls.so, checks its ABI version, and turns its statuses into what Lua functions
-- return: misuse raises, a failure is nil and an error, absence is nil.

local ffi = require "ffi"
local CONST = require "resty.mtls.internal.cdef"


local error = error
local ffi_str = ffi.string
local pcall = pcall
local tonumber = tonumber


local FILE = "libresty_mtls.so"
local OK = CONST.OK
local TOO_SMALL = CONST.TOO_SMALL
local NOT_FOUND = CONST.NOT_FOUND
local ERROR_SIZE = 1024
local TEXTS = {
    [CONST.NULL_ARGUMENT] = "NULL argument",
    [CONST.INVALID] = "invalid argument",
    [CONST.PANIC] = "internal error",
    [CONST.OPENSSL] = "OpenSSL error",
    [CONST.HOST] = "wrong OpenSSL",
}


local function load_library()
    local tried = {}

    for template in package.cpath:gmatch("[^;]+") do
        local path = (template:match("^(.*/)[^/]*$") or "./") .. FILE
        local file = io.open(path, "rb")
        if file then
            file:close()
            local ok, library = pcall(ffi.load, path)
            if ok then
                return library
            end

            tried[#tried + 1] = path .. ": " .. library
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
    -- The verdict of OpenSSL on a chain without an error.
    X509_V_OK = 0,
}


local found = C.rmtls_abi_version()
if found ~= CONST.ABI_VERSION then
    error("resty.mtls: " .. FILE .. " has ABI version " .. found .. ", expected " .. CONST.ABI_VERSION
          .. "; install Lua modules and library of the same release", 0)
end


local buf_type = ffi.typeof("rmtls_buf")
local bytes_type = ffi.typeof("uint8_t[?]")
-- The struct holds a bare pointer, which the garbage collector does not see.
local memory_of = setmetatable({}, { __mode = "k" })


-- A new buffer for each use: a shared one would be overwritten by a nested call.
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


-- Calls call(err) and returns true, or nil, the error that the library wrote into err, and the status.
-- An error of over size bytes (default 1024) is truncated.
function _M.try(what, call, size)
    local err = buffer(size or ERROR_SIZE)
    local status = call(err)
    if status == OK then
        return true
    end

    local _, message = failure(what, status, err)

    return nil, message, status
end


local READ_SIZE = 8192
local shared_a, shared_b = buffer(READ_SIZE), buffer(READ_SIZE)
local shared_in_use = false


-- Calls read(a[, b]) with growing buffers; returns one or two strings, nil when there is nothing, or nil
-- and an error. read must not yield.
function _M.read(what, read, two)
    local size = READ_SIZE
    while true do
        -- A nested call, and any call after one that raised, gets new buffers.
        local use_shared = not shared_in_use and size == READ_SIZE
        local a = use_shared and shared_a or buffer(size)
        local b = two and (use_shared and shared_b or buffer(size))
        a.len = 0
        if b then
            b.len = 0
        end

        shared_in_use = shared_in_use or use_shared
        local status = read(a, b)
        if use_shared then
            shared_in_use = false
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


-- `SUCCESS`, or `FAILED:` and the reason, for a verdict: X509_V_OK, an X509_V_ERR_* number, or CONST.VERDICT_*.
function _M.verdict_text(verdict)
    return (_M.read("verdict", function(out)
        return C.rmtls_verdict_text(verdict, out)
    end))
end


-- A handle that is freed with its last reference. The closure keeps `free`, and so the library, alive.
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
