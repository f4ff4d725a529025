-- Where a shared dictionary is missing or full: a store of this worker alone, with the methods of a dictionary.
--
--     local store = worker_store.new()
--     local store = worker_store.of(name)     -- the dictionary of that name, or else a store of this worker

local lrucache = require "resty.lrucache"


local ngx_now = ngx.now

-- With more entries, the one that was not used for the longest time is dropped. In place of a dictionary, a store has
-- the times and bytes of 1000 CRLs by URL and 1000 bundles.
local MAX_ENTRIES = 1000
local MAX_ENTRIES_OF_DICT = 10000


local _M = {}
local mt = { __index = _M }


local stores = {}


function _M.new(max_entries)
    return setmetatable({ cache = lrucache.new(max_entries or MAX_ENTRIES) }, mt)
end


function _M.of(name)
    local store = ngx.shared[name] or stores[name]
    if not store then
        store = _M.new(MAX_ENTRIES_OF_DICT)
        stores[name] = store
    end

    return store
end


function _M:get(key)
    local entry = self.cache:get(key)
    if entry then
        return entry.value, entry.flags
    end
end


function _M:ttl(key)
    local entry = self.cache:get(key)

    return entry and entry.ends and entry.ends - ngx_now()
end


-- Without a ttl, or with 0, a value has no end.
function _M:set(key, value, ttl, flags)
    ttl = ttl ~= 0 and ttl or nil
    self.cache:set(key, { value = value, flags = flags, ends = ttl and ngx_now() + ttl }, ttl)

    return true
end


_M.safe_set = _M.set


function _M:safe_add(key, value, ttl, flags)
    if self.cache:get(key) then
        return false, "exists"
    end

    return self:set(key, value, ttl, flags)
end


function _M:incr(key, delta)
    local entry = self.cache:get(key)
    if not entry then
        return nil, "not found"
    end

    entry.value = entry.value + delta

    return entry.value
end


function _M:delete(key)
    self.cache:delete(key)
end


function _M.flush_expired()
    return 0
end


return _M
