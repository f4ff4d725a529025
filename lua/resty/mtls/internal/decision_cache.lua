-- The decision records of this worker, by plan and by client, connection or token: header lines, and what
-- client() returns. Together they have one bound in bytes; the least recently used ones are dropped.
--
-- Records are in two tables. When the newer one holds half of the bound, it replaces the older one, which
-- is dropped; a record of the older one moves to the newer one when it is used.

local CONST = require "resty.mtls.internal.cdef"


local HALF = CONST.MAX_LUA_BYTES / 2

-- Bytes of a record and its tables, without its strings (LuaJIT with GC64).
local RECORD_SIZE = 1400
-- Bytes of a string header and a table slot.
local STRING_OVERHEAD = 40


local newer = {}
local older = {}
local bytes = 0


-- A key is plan * SLOTS_PER_PLAN + slot. Slots are those of the client cache, and from these numbers on: connections,
-- verdicts of clients that have neither, and twice slots of the token cache, for the lines of their claims and for
-- the requests of their consumers.
local _M = {
    SLOTS_PER_PLAN = 32768,
    CONNECTION_SLOTS = 1024,
    VERDICT_SLOTS = 2048,
    TOKEN_SLOTS = 4096,
    TOKEN_CONSUMER_SLOTS = 12288,
}


-- Drops all records.
function _M.clear()
    newer = {}
    older = {}
    bytes = 0
end


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


-- As get(), but does not count as a use.
function _M.peek(key)
    return newer[key] or older[key]
end


-- Stores a record under a key.
function _M.put(key, record)
    record.bytes = RECORD_SIZE
    older[key] = nil
    newer[key] = record
    grow(RECORD_SIZE)
end


-- Adds to the size of a record.
function _M.add(record, more)
    record.bytes = record.bytes + more
    grow(more)
end


-- The size in bytes of an array of strings.
function _M.size_of(strings)
    local size = 0
    for i = 1, #strings do
        size = size + STRING_OVERHEAD + #strings[i]
    end

    return size
end


return _M
