-- The gauges that describe the policies of this node: they are read from the library when the metrics are.

local ffi = require "ffi"
local blocks = require "resty.mtls.internal.blocks"
local engine = require "resty.mtls.internal.engine"
local families = require "resty.mtls.internal.metric_families"
local library = require "resty.mtls.internal.library"


local C = library.C
local key = families.key

-- Seconds for which the dictionary has the policy of a worker.
local TTL = 10
-- How many CRLs, CA certificates and lists have metrics.
local MAX = 1000


local _M = {}

-- The policy of this worker: { epoch, key of policy_info }.
local published


local function current_engine()
    local found, current = pcall(engine.current)

    return found and current or nil
end


-- Writes the digest of this worker's policy to the dictionary, where it expires if the worker ends.
function _M.publish(dict)
    local worker, current = ngx.worker.id(), current_engine()
    if not worker or not current then
        return
    end

    local epoch = C.rmtls_engine_epoch(current.handle)
    if not published or published.epoch ~= epoch then
        local status = current:status()
        if not status then
            return
        end

        if published and dict then
            dict:delete(published.key)
        end

        published = { epoch = epoch, key = key("policy_info", worker, status.digest) }
    end

    if dict then
        dict:safe_set(published.key, 1, TTL)
    end
end


-- Of several certificates or CRLs under one key, the last one to end counts.
local function add_end(all, name, value)
    all[name] = math.max(all[name] or -math.huge, value)
end


local function add_cas(all, current)
    local not_after = ffi.new("int64_t[1]")
    local now = ngx.time()
    for i = 0, MAX - 1 do
        local id, subject = library.read("metrics", function(a, b)
            return C.rmtls_engine_ca_certificate(current.handle, i, a, b, not_after)
        end, true)
        if not id then
            return
        end

        add_end(all, key("ca_time_to_expiry_seconds", id, subject), tonumber(not_after[0]) - now)
    end
end


local function add_crls(all, current)
    local now = ngx.time()
    for _, crl in ipairs(current:crls(MAX)) do
        if crl.next_update then
            add_end(all, key("crl_time_to_next_update_seconds", crl.file, crl.issuer), crl.next_update - now)
        end

        for _, name in ipairs { "entries", "bytes" } do
            local sum = key("crl_" .. name, crl.file, crl.issuer)
            all[sum] = (all[sum] or 0) + crl[name]
        end
    end
end


local function add_lists(all, current)
    for _, list in ipairs(current:lists(MAX)) do
        all[key("list_entries", list.file)] = list.entries
        all[key("list_reload_failing", list.file)] = list.error and 1 or 0
    end
end


-- Which policy each worker of this node serves.
local function add_policies(all, current)
    local node = current:node()
    if not node then
        return
    end

    all.policy_in_force_epoch = node.epoch
    for _, worker in ipairs(node.workers) do
        all[key("policy_epoch", worker.worker)] = worker.epoch
        all[key("policy_in_force_since_seconds", worker.worker)] = worker.since
        all[key("policy_reload_failing", worker.worker)] = worker.failed and 1 or 0
    end
end


-- Adds the gauges to all, by their keys. dict: the dictionary that publish() had.
function _M.add(all, dict)
    if published and not dict then
        all[published.key] = 1
    end

    local current = current_engine()
    if current then
        all.blocks = #blocks.list()
        add_cas(all, current)
        add_crls(all, current)
        add_lists(all, current)
        add_policies(all, current)
    end
end


return _M
