-- The first end of the certificates that each consumer uses, for status(). It is in the dictionary of metrics; without
-- that, each worker has its own.

local families = require "resty.mtls.internal.metric_families"


local ngx_time = ngx.time

local PREFIX = families.INTERNAL .. "end" .. families.SEPARATOR
-- Seconds for which an end is remembered. Each worker observes a certificate in use more often.
local TTL = 7200


local _M = {}

-- [key]: { not_after, until_ }, without a dictionary.
local of_worker = {}


-- Remembers the end of a certificate, if it is the first one of the consumer. dict: the dictionary of metrics, or nil.
function _M.remember(dict, consumer, not_after)
    local key = PREFIX .. consumer
    if dict then
        local known = dict:get(key)
        if not known or not_after <= known then
            dict:safe_set(key, not_after, TTL)
        end

        return
    end

    local known = of_worker[key]
    if not known or not_after <= known.not_after or known.until_ < ngx_time() then
        of_worker[key] = { not_after = not_after, until_ = ngx_time() + TTL }
    end
end


-- The first end of the certificates that each consumer has used in the last two hours, the first to end first:
-- { { consumer, not_after }, ... }; nil if there are none.
function _M.list(dict)
    local list = {}
    local function add(key, not_after)
        if not_after and key:sub(1, #PREFIX) == PREFIX then
            list[#list + 1] = { consumer = key:sub(#PREFIX + 1), not_after = not_after }
        end
    end

    for _, key in ipairs(dict and dict:get_keys(0) or {}) do
        add(key, dict:get(key))
    end

    for key, known in pairs(of_worker) do
        add(key, known.until_ >= ngx_time() and known.not_after)
    end

    table.sort(list, function(a, b)
        if a.not_after ~= b.not_after then
            return a.not_after < b.not_after
        end

        return a.consumer < b.consumer
    end)

    return list[1] and list
end


return _M
