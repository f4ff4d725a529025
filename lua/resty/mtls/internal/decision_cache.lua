-- What Lua keeps of decisions, by plan and by client, connection or token: header lines, and what
-- client() gives. All of it together has one bound in bytes, and what was used last stays.
--
-- Records lie in two tables. Once the newer one holds half of what is allowed, it takes the place of
-- the older one, which is dropped; a record of the older one that is used moves to the newer one.

local STATUS = require "resty.mtls.internal.cdef"


local HALF = STATUS.MAX_LUA_BYTES / 2

-- Bytes of a record without its strings, with all the tables in it (LuaJIT with GC64).
local RECORD = 1400
-- Of one string, and of its slot in a table.
local STRING = 40


local newer = {}
local older = {}
local bytes = 0


-- A key is plan * OWNERS + owner. Owners are places of clients, then from each of these numbers on
-- slots of connections, verdicts on clients that have neither, and places of tokens.
local _M = {
    OWNERS = 16384,
    CONNECTIONS = 1024,
    NO_CLIENT = 2048,
    TOKENS = 4096,
}


-- Forgets everything.
function _M.clear()
    newer = {}
    older = {}
    bytes = 0
end


-- Counts more bytes that hang on records.
local function grow(more)
    bytes = bytes + more
    if bytes > HALF then
        older = newer
        newer = {}
        bytes = 0
    end
end


local function promote(key)
    local record = older[key]
    if record then
        older[key] = nil
        newer[key] = record
        grow(record.bytes)
    end

    return record
end


-- The record under a key, a number, or nil. It must not be kept beyond the request.
function _M.get(key)
    return newer[key] or promote(key)
end


-- As get(), without a use that would keep it.
function _M.peek(key)
    return newer[key] or older[key]
end


-- Puts a record under a key, in place of another one.
function _M.put(key, record)
    record.bytes = RECORD
    older[key] = nil
    newer[key] = record
    grow(RECORD)
end


-- Notes that a record holds more bytes than before.
function _M.add(record, more)
    record.bytes = record.bytes + more
    grow(more)
end


-- Bytes of an array of strings.
function _M.size_of(strings)
    local size = 0
    for i = 1, #strings do
        size = size + STRING + #strings[i]
    end

    return size
end


return _M
