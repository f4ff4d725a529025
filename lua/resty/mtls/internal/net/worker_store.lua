-- Where a shared dictionary is missing or full: a store of this worker alone, with the methods of a dictionary.
--
--     local store = ngx.shared[name] or worker_store.new()

local lrucache = require "resty.lrucache"


local ngx_now = ngx.now

-- With more of them, the one that was not used for the longest time is dropped.
local MAX_ENTRIES = 1000


local _M = {}
local mt = { __index = _M }


function _M.new()
    return setmetatable({ cache = lrucache.new(MAX_ENTRIES) }, mt)
end


function _M:get(key)
    local entry = self.cache:get(key)
    if entry then
        return entry.value, entry.flags
    end
end


function _M:ttl(key)
    local entry = self.cache:get(key)

    return entry and entry.ends - ngx_now()
end


function _M:set(key, value, ttl, flags)
    self.cache:set(key, { value = value, flags = flags, ends = ngx_now() + ttl }, ttl)

    return true
end


_M.safe_set = _M.set


function _M:safe_add(key, value, ttl, flags)
    if self.cache:get(key) then
        return false, "exists"
    end

    return self:set(key, value, ttl, flags)
end


function _M:delete(key)
    self.cache:delete(key)
end


function _M.flush_expired()
    return 0
end


return _M
