-- Counts events in this worker, and adds them to the counts of all workers once a second.
--
--     metrics.count("headers_left_out_total", "too_large")              -- any phase of a request
--     metrics.observe("fetch_duration_seconds", 0.12, "ocsp", "ok")
--     metrics.values()
--
-- A request only adds to elements of an array. A timer, which starts with the first count of the worker, adds
-- the array to the shared dictionary. That dictionary holds nothing else, so that fetched documents cannot
-- evict counts; without it each worker counts for itself.

local ffi = require "ffi"
require "resty.core.shdict"
local certificate_ends = require "resty.mtls.internal.certificate_ends"
local families = require "resty.mtls.internal.metric_families"
local gauges = require "resty.mtls.internal.metric_gauges"
local library = require "resty.mtls.internal.library"
local policy_warnings = require "resty.mtls.internal.policy_warnings"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local error = error
local floor = math.floor
local ipairs = ipairs
local ngx = ngx
local tonumber = tonumber
local tostring = tostring


local OTHER = "other"
local SEPARATOR = families.SEPARATOR
local INTERNAL = families.INTERNAL
-- Seconds
local INTERVAL = 1
-- How many values of a label count by themselves; the others count as OTHER.
local LIMITS = { route = 200, consumer = 100 }
local LIMIT = 100
local MAX_LABEL = 128
-- How many label values are cached, so that those of former policies do not add up.
local MAX_CACHED_LABELS = 10000

-- Added to the class of a response (2 for 2xx), so that it differs from the statuses of decisions in route_slots.
local CLASS = 1000
-- Added to the status of a refusal that is only reported, in the same way.
local WOULD_REFUSE = 2000

local FAMILY = families.by_name
for _, family in ipairs(families.list) do
    -- [label value][label value]: index in pending; for a histogram a table of them, by bucket.
    family.slots = {}
end


local dict_name = "mtls_metrics"
local dict = ngx.shared[dict_name]
-- Counts of this worker that are not in the dictionary yet, and their keys.
local pending = {}
local keys = {}
local count = 0
-- Whether the timer runs.
local running = false
-- The process that ran init in this Lua VM. In a VM that was not forked (lua_code_cache off) no timer is
-- started, because it would keep the VM of a request alive.
local init_pid
-- [label][value]: the label value that it counts as.
local cached_labels = {}
local cached_labels_count = 0
-- [label]: { count, values } of this worker, without a dictionary.
local worker_values = {}
-- [route][status of a decision, CLASS + class of a response, or WOULD_REFUSE + status]: index in pending.
local route_slots = {}
local verdict_slots = {}
local events = ffi.new("uint64_t[?]", CONST.EVENTS)
local event_slots = {}
local warned = {}
-- What other modules add when the metrics are read.
local readers = {}


local _M = {
    -- Seconds after which a worker observes the lifetime of a certificate again.
    EXPIRY_INTERVAL = 3600,
}


local function warn_once(text)
    if not warned[text] then
        warned[text] = true
        ngx.log(ngx.WARN, "[mtls] ", text)
    end
end


-- init_by_lua*. shared_dict: the option of mtls.init; the counts are in NAME_metrics.
function _M.init(shared_dict)
    dict_name = (shared_dict or "mtls") .. "_metrics"
    dict = ngx.shared[dict_name]
    init_pid = ngx.worker.pid()
end


-- Adds to a number in the dictionary, without evicting others for it. The sum; or nil and an error.
local function add(key, delta)
    local value, err = dict:incr(key, delta)
    if err == "not found" then
        value, err = dict:safe_add(key, delta)
        value = value and delta
    end

    if err == "exists" then
        value, err = dict:incr(key, delta)
    end

    return value, err
end


local function admit_in_worker(label, value)
    local label_values = worker_values[label] or { count = 0, values = {} }
    worker_values[label] = label_values
    if not label_values.values[value] and label_values.count < (LIMITS[label] or LIMIT) then
        label_values.values[value] = true
        label_values.count = label_values.count + 1
    end

    return label_values.values[value]
end


-- Whether a label value counts by itself. For labels of the policy, all workers decide it together.
local function admit(label, value)
    local limit = LIMITS[label]
    if not dict or not limit then
        return admit_in_worker(label, value)
    end

    local counter = INTERNAL .. label
    local key = counter .. SEPARATOR .. value
    if dict:get(key) then
        return true
    end

    local counted = add(counter, 1)
    if counted and counted <= limit then
        local added, err = dict:safe_add(key, true)
        if added then
            return true
        end

        dict:incr(counter, -1)
        if err == "exists" then
            return true
        end

    elseif counted then
        dict:incr(counter, -1)
        return false
    end

    -- The dictionary is full, and the counts stay in this worker too.
    return admit_in_worker(label, value)
end


-- The label value that a value counts as: itself, or OTHER.
local function label_of(label, value)
    value = value or ""
    local cached = cached_labels[label]
    local found = cached and cached[value]
    if found then
        return found
    end

    local text = tostring(value):gsub("%c", "?")
    if #text > MAX_LABEL or text ~= OTHER and not admit(label, text) then
        text = OTHER
    end

    if cached_labels_count == MAX_CACHED_LABELS then
        cached_labels = {}
        cached_labels_count = 0
        route_slots = {}
    end

    cached_labels_count = cached_labels_count + 1
    cached_labels[label] = cached_labels[label] or {}
    cached_labels[label][value] = text

    return text
end


-- Adds a count under a key. Returns its index in pending.
local function new_slot(key)
    count = count + 1
    pending[count] = 0
    keys[count] = key

    return count
end


-- The index in pending for label values; for a histogram a table of them, by bucket.
local function slot(family, a, b)
    local labels = family.labels
    a = labels[1] and label_of(labels[1], a) or ""
    b = labels[2] and label_of(labels[2], b) or ""
    local second_labels = family.slots[a]
    if not second_labels then
        second_labels = {}
        family.slots[a] = second_labels
    end

    local found = second_labels[b]
    if found then
        return found
    end

    local key = families.key(family.name, labels[1] and a, labels[2] and b)
    if family.buckets then
        key = key .. SEPARATOR
        found = { sum = new_slot(key .. "sum") }
        for i, bound in ipairs(family.buckets) do
            found[i] = new_slot(key .. bound)
        end

        found[#found + 1] = new_slot(key .. "+Inf")

    else
        found = new_slot(key)
    end

    second_labels[b] = found

    return found
end


-- Calls callback(all), which adds gauges, whenever the metrics are read.
function _M.on_read(callback)
    readers[#readers + 1] = callback
end


-- Adds the counts of this worker to those in the dictionary.
local function flush()
    C.rmtls_metrics_read_and_reset(events)
    for i = 0, CONST.EVENTS - 1 do
        if events[i] ~= 0 then
            local event = families.events[i]
            local at = event_slots[i] or slot(FAMILY[event[1]], event[2], event[3])
            event_slots[i] = at
            pending[at] = pending[at] + tonumber(events[i])
        end
    end

    if not dict then
        return
    end

    for i = 1, count do
        local delta = pending[i]
        if delta ~= 0 then
            local ok, err = add(keys[i], delta)
            if ok then
                pending[i] = 0
            else
                -- The count stays in pending.
                warn_once("lua_shared_dict " .. dict_name .. " takes no more counts (" .. err .. "): make it larger")
            end
        end
    end
end


local function tick(premature)
    if premature then
        running = false
    else
        gauges.publish(dict)
        policy_warnings.log(dict)
    end

    flush()
end


local function start()
    local exiting = ngx.worker.exiting()
    if exiting or not init_pid or init_pid == ngx.worker.pid() then
        return tick(exiting)
    end

    local ok, err = ngx.timer.every(INTERVAL, tick)
    running = ok and true
    if not ok then
        warn_once("no timer for metrics: " .. err)
    end
end


-- Starts the timer, unless it runs. Called in phases in which only the library counts.
function _M.start_timer()
    if not running then
        start()
    end
end


local function family_of(name, kind)
    local family = FAMILY[name]
    if not family or (family.type == "histogram") ~= (kind == "histogram") then
        error("metrics: no " .. kind .. " '" .. tostring(name) .. "'", 3)
    end

    return family
end


-- Adds 1 to a counter, by its label values. The first 100 values of a label (200 of a route) count by
-- themselves and the others as "other".
function _M.count(name, a, b)
    local at = slot(family_of(name, "counter"), a, b)
    pending[at] = pending[at] + 1
    if not running then
        start()
    end
end


-- Adds a value to a histogram, by its label values.
function _M.observe(name, value, a, b)
    local family = family_of(name, "histogram")
    local at = slot(family, a, b)
    local bucket = #family.buckets + 1
    for i, bound in ipairs(family.buckets) do
        if value <= bound then
            bucket = i
            break
        end
    end

    pending[at[bucket]] = pending[at[bucket]] + 1
    pending[at.sum] = pending[at.sum] + value
    if not running then
        start()
    end
end


local function route_slot(route, what)
    local slots = route_slots[route]
    if not slots then
        -- First, because it may replace route_slots.
        label_of("route", route)
        slots = route_slots[route] or {}
        route_slots[route] = slots
    end

    local at
    if what >= WOULD_REFUSE then
        at = slot(FAMILY.would_refuse_total, route, what - WOULD_REFUSE)
    elseif what >= CLASS then
        at = slot(FAMILY.responses_total, route, (what - CLASS) .. "xx")
    else
        at = slot(FAMILY.requests_total, route, what == 0 and "pass" or what)
    end

    slots[what] = at

    return at
end


local function verdict_slot(verdict)
    local text = verdict >= 0 and library.verdict_text(verdict) or "NONE"
    verdict_slots[verdict] = slot(FAMILY.verdicts_total, text)

    return verdict_slots[verdict]
end


-- Counts a decision of access(): route "" for none, status 0 for an allowed request, the number of the verdict
-- or -1, and whether an untrusted client is the anonymous consumer.
function _M.count_decision(route, status, verdict, anonymous)
    local slots = route_slots[route]
    local at = slots and slots[status] or route_slot(route, status)
    pending[at] = pending[at] + 1

    -- A misdirected request has no verdict, nor has one on a route that does not verify.
    if verdict >= 0 or anonymous or status == 401 or status == 403 then
        at = verdict_slots[verdict] or verdict_slot(verdict)
        pending[at] = pending[at] + 1
    end

    if not running then
        start()
    end
end


local function count_of_route(route, what)
    local slots = route_slots[route]
    local at = slots and slots[what] or route_slot(route, what)
    pending[at] = pending[at] + 1
    if not running then
        start()
    end
end


-- Counts a request that passes although a plugin would refuse it with this status.
function _M.count_would_refuse(route, status)
    return count_of_route(route, WOULD_REFUSE + status)
end


-- Counts the response to a request that access() decided about.
function _M.count_response(route, status)
    return count_of_route(route, CLASS + floor(status / 100))
end


-- Observes the seconds for which a trusted certificate is still valid; consumer: as in client().
function _M.observe_expiry(consumer, left)
    local name = consumer and (consumer.username or consumer.custom_id or consumer.id) or ""
    _M.observe("certificate_time_to_expiry_seconds", left, name)
    certificate_ends.remember(dict, label_of("consumer", name), ngx.time() + left)
end


-- What certificate_ends has remembered, for status().
function _M.ends()
    return certificate_ends.list(dict)
end


-- All counts and gauges, { [key] = number }, summed over workers if there is a dictionary.
function _M.values()
    flush()
    gauges.publish(dict)
    local all = {}
    if dict then
        for _, key in ipairs(dict:get_keys(0)) do
            if key:sub(1, 1) ~= INTERNAL then
                all[key] = dict:get(key)
            end
        end

    else
        warn_once("lua_shared_dict " .. dict_name .. " is not in nginx.conf: every worker counts for itself")
    end

    for i = 1, count do
        if pending[i] ~= 0 then
            all[keys[i]] = (all[keys[i]] or 0) + pending[i]
        end
    end

    gauges.add(all, dict)
    for _, reader in ipairs(readers) do
        reader(all)
    end

    all.metrics_shared = dict and 1 or 0

    return all
end


return _M
