-- A lease in a shared dictionary: one worker of this node at a time holds a name. Its holder renews it, and when the
-- holder's process has ended, or has not renewed it for three seconds, the next worker that wants it takes it over.
--
--     local lease, err = lease.take(ngx.shared.mtls, name)     -- nil: another worker holds it; err: no room
--     lease:renew()                                            -- every second; false: another worker has it now
--     lease:release()
--
-- The age of a renewal is measured by the monotonic clock, which all processes of a machine share, and not by the
-- expiry of dictionary entries: that is by the wall clock, so a clock that is set would end leases or keep them.

local ffi = require "ffi"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"


local C = ffi.C
local find = string.find
local now = monotonic_clock.now


ffi.cdef [[
int kill(int pid, int signal);
]]


local ESRCH = 3
-- Milliseconds
local ALIVE_FOR = 3000
-- Seconds
local ENTRY_TTL = 86400
-- Seconds for which the takeover of a dead lease is recorded. Two workers that saw the same dead lease compete by it.
local TAKEOVER_TTL = 10

local PREFIX = "lease:"
local TAKEOVER_PREFIX = "lease-takeover:"


local _M = {
    ALIVE_FOR = ALIVE_FOR,
}
local mt = { __index = _M }

local taken = 0


-- The owner ("PID:NONCE") and the time of the last renewal, of the entry's value "PID:NONCE:MILLISECONDS".
local function parse(value)
    local _, _, owner, pid, stamp = find(value, "^((%d+):[%d.]+):(%d+)$")

    return owner, tonumber(pid), tonumber(stamp)
end


local function value_of(owner)
    return owner .. ":" .. now()
end


local function process_exists(pid)
    return C.kill(pid, 0) == 0 or ffi.errno() ~= ESRCH
end


-- Whether the value of an entry is that of a living holder. A time of renewal in the future is of before a restart
-- of the machine, which no dictionary survives, so it is not expected; such a holder counts as dead.
local function is_alive(value)
    local _, pid, stamp = parse(value)
    if not stamp then
        return false
    end

    local age = now() - stamp

    return age < ALIVE_FOR and age > -ALIVE_FOR and process_exists(pid)
end


-- Whether a living worker, this one included, holds the name.
function _M.holder_alive(dict, name)
    local value = dict:get(PREFIX .. name)

    return value ~= nil and is_alive(value)
end


-- Takes the lease of a name: a lease; or nil when another holder has it, or nil and an error when the dictionary has
-- no room. Two calls in one worker are two holders. ttl: seconds after which an entry that is not renewed disappears,
-- by the wall clock (default a day); for names that are never used again.
function _M.take(dict, name, ttl)
    local key = PREFIX .. name
    taken = taken + 1
    -- The time, because another process may get the same id later.
    local owner = ngx.worker.pid() .. ":" .. taken .. "." .. now()
    local lease = setmetatable({ dict = dict, key = key, owner = owner, ttl = ttl or ENTRY_TTL }, mt)
    local added, err = dict:safe_add(key, value_of(owner), lease.ttl)
    if added then
        return lease
    end

    if err ~= "exists" then
        return nil, err
    end

    local value = dict:get(key)
    if not value or is_alive(value) then
        return nil
    end

    -- One worker replaces the entry, so that none replaces what another one has put there meanwhile.
    local dead = parse(value) or "malformed"
    added, err = dict:safe_add(TAKEOVER_PREFIX .. name .. ":" .. dead, true, TAKEOVER_TTL)
    if not added then
        return nil, err ~= "exists" and err or nil
    end

    local ok
    ok, err = dict:safe_set(key, value_of(owner), lease.ttl)
    if not ok then
        return nil, err
    end

    lease.taken_over = true

    return lease
end


-- Renews the lease. false when another worker has taken it over, which it can when this one did not renew it in time;
-- the holder must then end what it does under the lease.
function _M:renew()
    local value = self.dict:get(self.key)
    if value and parse(value) ~= self.owner then
        return false
    end

    if not value then
        -- It was evicted or deleted.
        return self.dict:safe_add(self.key, value_of(self.owner), self.ttl) == true
    end

    -- The value has the length of the one before, so that it needs no room.
    return self.dict:safe_set(self.key, value_of(self.owner), self.ttl) == true
end


-- Ends the lease, unless another worker has taken it over.
function _M:release()
    local value = self.dict:get(self.key)
    if value and parse(value) == self.owner then
        self.dict:delete(self.key)
    end
end


return _M
