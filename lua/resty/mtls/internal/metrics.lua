-- Counts what happens in this worker, adds it to the counts of all workers once a second, and
-- writes them down for Prometheus.
--
--     metrics.count("headers_left_out_total", "too_large")              -- any phase of a request
--     metrics.observe("fetch_duration_seconds", 0.12, "ocsp", "ok")
--     metrics.text()
--
-- A request pays for additions to an array. The timer that takes them to the shared dictionary
-- starts with the first count of the worker. The dictionary holds nothing else, so fetched
-- documents cannot push counts out; without it each worker counts for itself.

local ffi = require "ffi"
require "resty.core.shdict"
local engine = require "resty.mtls.internal.engine"
local library = require "resty.mtls.internal.library"
local STATUS = require "resty.mtls.internal.cdef"


local C = library.C
local concat = table.concat
local error = error
local floor = math.floor
local ipairs = ipairs
local ngx = ngx
local ngx_log = ngx.log
local pairs = pairs
local pcall = pcall
local sort = table.sort
local tonumber = tonumber
local tostring = tostring

local WARN = ngx.WARN


local PREFIX = "resty_mtls_"
local OTHER = "other"
-- Keys of the dictionary are a family and its labels, joined with a character that no label has.
local SEPARATOR = "\0"
-- Before the names of labels that are known, which are keys too.
local KNOWN = "\1"
-- Seconds
local INTERVAL = 1
local GAUGE_TTL = 10
-- Most values of one label; the others share one.
local LIMITS = { route = 200, consumer = 100 }
local LIMIT = 100
local MAX_LABEL = 128
-- Most CRLs that are shown.
local MAX_CRLS = 1000
-- Expired CRLs are warned of by one of the workers, for so long.
local WARNED_TTL = 3600
-- Most values whose place is remembered, so that policies that come and go do not add up.
local MAX_REMEMBERED = 10000

local CLASS = 1000
local DAY = 86400
-- INT64_MAX
local NO_TIME = 0x7fffffffffffffffLL


-- labels: in the order of the keys. zero: label values that are there from the start.
local FAMILIES = {
    { name = "client_hellos_total", type = "counter", labels = {}, zero = { {} },
      help = "Starts of TLS handshakes that client_hello() saw, resumptions included." },
    { name = "certificate_requests_total", type = "counter", labels = {}, zero = { {} },
      help = "Full TLS handshakes in which a client certificate was asked for." },
    { name = "certificates_presented_total", type = "counter", labels = {}, zero = { {} },
      help = "Full TLS handshakes in which the client sent a certificate, whatever it is worth." },
    { name = "handshake_errors_total", type = "counter", labels = { "phase" },
      zero = { { "client_hello" }, { "certificate" } },
      help = "Failures of client_hello() and certificate(), after which the handshake went on." },
    { name = "connections_total", type = "counter", labels = { "session" }, zero = { { "full" }, { "resumed" } },
      help = "TLS connections on which access() decided about at least one request, by where their session is from." },
    { name = "requests_total", type = "counter", labels = { "route", "decision" },
      help = "Requests that access() decided about: pass, or the status of the refusal." },
    { name = "verdicts_total", type = "counter", labels = { "verdict" }, zero = { { "NONE" }, { "SUCCESS" } },
      help = "Verdicts on the clients of requests, on routes that judge them; NONE: no certificate." },
    { name = "responses_total", type = "counter", labels = { "route", "class" },
      help = "Responses to requests that access() decided about, as log() saw them." },
    { name = "cache_lookups_total", type = "counter", labels = { "cache", "result" },
      zero = { { "decision", "hit" }, { "decision", "miss" }, { "client", "hit" }, { "client", "miss" },
               { "verdict", "hit" }, { "verdict", "miss" }, { "status", "hit" }, { "status", "miss" } },
      help = "Look-ups of what is remembered: decisions of a connection, and clients, verdicts and revocation statuses "
             .. "of a worker." },
    { name = "headers_left_out_total", type = "counter", labels = { "reason" },
      help = "Headers about a client that could not be set, once for each client, route and worker." },
    { name = "revocation_answers_total", type = "counter", labels = { "source", "answer" },
      help = "What OCSP responders and CRLs say about a client certificate; rejected: what they sent is no answer." },
    { name = "crl_time_to_next_update_seconds", type = "gauge", labels = { "file", "issuer" },
      help = "What is left until the nextUpdate of a CRL file of the policy; negative after it." },
    { name = "fetch_duration_seconds", type = "histogram", labels = { "kind", "outcome" },
      buckets = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30 },
      help = "Time of fetches over the network, by what they ended in: ok, status (not 2xx), timeout, "
             .. "error, shortage (of this machine)." },
    { name = "shortages_total", type = "counter", labels = { "resource" },
      zero = { { "connections" }, { "descriptors" }, { "dictionary" }, { "memory" }, { "ports" }, { "timers" } },
      help = "What this machine lacked when something was to be fetched or kept. Requests that depend on a fetch get "
             .. "503; without room in the dictionary or a timer they are served." },
    { name = "certificate_time_to_expiry_seconds", type = "histogram", labels = { "consumer" },
      buckets = { DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 60 * DAY, 90 * DAY, 180 * DAY, 365 * DAY },
      help = "What is left of the lifetime of trusted client certificates in use; each worker looks at each once an "
             .. "hour." },
    { name = "policy_reloads_total", type = "counter", labels = { "result" }, zero = { { "ok" }, { "failed" } },
      help = "Policies that reload() put in force or, for an error, did not, summed over workers." },
    { name = "policy_epoch", type = "gauge", labels = { "worker" },
      help = "Number of the worker's policy among all that have been in force on this node." },
    { name = "policy_in_force_epoch", type = "gauge", labels = {},
      help = "Number of the policy in force on this node; a worker with a lower one is behind." },
    { name = "policy_in_force_since_seconds", type = "gauge", labels = { "worker" },
      help = "When the worker's policy was put in force, in seconds since 1970." },
    { name = "policy_reload_failing", type = "gauge", labels = { "worker" },
      help = "1: the last reload of the worker failed, and an earlier policy serves; 0: it went well." },
    { name = "policy_info", type = "gauge", labels = { "worker", "digest" },
      help = "The policy in force in the worker." },
    { name = "metrics_shared", type = "gauge", labels = {},
      help = "1: these are sums over all workers; 0: they are those of one worker." },
}

local FAMILY = {}
for _, family in ipairs(FAMILIES) do
    FAMILY[family.name] = family
    -- [label][label]: place in pending; [label][label][bucket] for a histogram.
    family.slots = {}
end

-- rmtls_metrics_take() has them in this order.
local EVENTS = {
    [STATUS.EVENT_CLIENT_HELLO] = { "client_hellos_total" },
    [STATUS.EVENT_CERTIFICATE_REQUEST] = { "certificate_requests_total" },
    [STATUS.EVENT_CERTIFICATE_PRESENTED] = { "certificates_presented_total" },
    [STATUS.EVENT_FULL_CONNECTION] = { "connections_total", "full" },
    [STATUS.EVENT_RESUMED_CONNECTION] = { "connections_total", "resumed" },
    [STATUS.EVENT_DECISION_HIT] = { "cache_lookups_total", "decision", "hit" },
    [STATUS.EVENT_DECISION_MISS] = { "cache_lookups_total", "decision", "miss" },
    [STATUS.EVENT_CLIENT_HIT] = { "cache_lookups_total", "client", "hit" },
    [STATUS.EVENT_CLIENT_MISS] = { "cache_lookups_total", "client", "miss" },
    [STATUS.EVENT_VERDICT_HIT] = { "cache_lookups_total", "verdict", "hit" },
    [STATUS.EVENT_VERDICT_MISS] = { "cache_lookups_total", "verdict", "miss" },
    [STATUS.EVENT_STATUS_HIT] = { "cache_lookups_total", "status", "hit" },
    [STATUS.EVENT_STATUS_MISS] = { "cache_lookups_total", "status", "miss" },
}


local dict_name = "mtls_metrics"
local dict = ngx.shared[dict_name]
-- What this worker counted and the dictionary does not have yet, and the keys it belongs to.
local pending = {}
local keys = {}
local count = 0
-- Whether the timer does its work.
local running = false
-- Process that ran init in this Lua VM. A VM that was not forked may be one that lives for one
-- request (lua_code_cache off), which a timer would keep: there, counts are not left to a timer.
local init_pid
-- [label][value]: what it counts as.
local remembered = {}
local remembered_count = 0
-- [label]: { count, values }, where there is no dictionary.
local admitted = {}
-- [route][status of a decision, or CLASS + class of a response]: place in pending.
local routes = {}
local verdicts = {}
local events = ffi.new("uint64_t[?]", STATUS.EVENTS)
local event_slots = {}
local reported
local warned = {}


local _M = {
    -- Seconds after which a worker looks at a certificate again.
    EXPIRY_INTERVAL = 3600,
}


local function warn_once(text)
    if not warned[text] then
        warned[text] = true
        ngx_log(WARN, "[mtls] ", text)
    end
end


-- init_by_lua*. shared_dict: the option of mtls.init; the counts are in NAME_metrics.
function _M.init(shared_dict)
    dict_name = (shared_dict or "mtls") .. "_metrics"
    dict = ngx.shared[dict_name]
    init_pid = ngx.worker.pid()
end


local function admit_here(label, value)
    local own = admitted[label] or { count = 0, values = {} }
    admitted[label] = own
    if not own.values[value] and own.count < (LIMITS[label] or LIMIT) then
        own.values[value] = true
        own.count = own.count + 1
    end

    return own.values[value]
end


-- Whether the value is one of the first of its label: on this node, if it comes from the policy.
local function admit(label, value)
    local limit = LIMITS[label]
    if not dict or not limit then
        return admit_here(label, value)
    end

    local known = KNOWN .. label
    local key = known .. SEPARATOR .. value
    if dict:get(key) then
        return true
    end

    local counted = dict:incr(known, 1)
    if not counted then
        counted = dict:safe_add(known, 1) and 1 or dict:incr(known, 1)
    end

    if counted and counted <= limit then
        local added, err = dict:safe_add(key, true)
        if added then
            return true
        end

        dict:incr(known, -1)
        if err == "exists" then
            return true
        end

    elseif counted then
        dict:incr(known, -1)
        return false
    end

    -- The dictionary is full: what is counted stays here too.
    return admit_here(label, value)
end


-- The label that stands for a value: itself, or OTHER.
local function label_of(label, value)
    value = value or ""
    local memo = remembered[label]
    local known = memo and memo[value]
    if known then
        return known
    end

    local text = tostring(value):gsub("%c", "?")
    if #text > MAX_LABEL or text ~= OTHER and not admit(label, text) then
        text = OTHER
    end

    if remembered_count == MAX_REMEMBERED then
        remembered = {}
        remembered_count = 0
        routes = {}
    end

    remembered_count = remembered_count + 1
    remembered[label] = remembered[label] or {}
    remembered[label][value] = text

    return text
end


local function place(key)
    count = count + 1
    pending[count] = 0
    keys[count] = key

    return count
end


local function key_of(family, a, b, last)
    local parts = { family.name }
    parts[#parts + 1] = family.labels[1] and a
    parts[#parts + 1] = family.labels[2] and b
    parts[#parts + 1] = last

    return concat(parts, SEPARATOR)
end


local function slot(family, a, b)
    local labels = family.labels
    a = labels[1] and label_of(labels[1], a) or ""
    b = labels[2] and label_of(labels[2], b) or ""
    local seconds = family.slots[a]
    if not seconds then
        seconds = {}
        family.slots[a] = seconds
    end

    local found = seconds[b]
    if found then
        return found
    end

    if family.buckets then
        found = { sum = place(key_of(family, a, b, "sum")) }
        for i, bound in ipairs(family.buckets) do
            found[i] = place(key_of(family, a, b, tostring(bound)))
        end

        found[#found + 1] = place(key_of(family, a, b, "+Inf"))

    else
        found = place(key_of(family, a, b))
    end

    seconds[b] = found

    return found
end


local function add(key, delta)
    local value, err = dict:incr(key, delta)
    if value then
        return true
    end

    local ok
    if err == "not found" then
        ok, err = dict:safe_add(key, delta)
        if err == "exists" then
            ok, err = dict:incr(key, delta)
        end
    end

    return ok, err
end


-- The policy of this worker. An entry that its worker does not renew goes away by itself.
local function report()
    local worker = ngx.worker.id()
    local found, current = pcall(engine.current)
    if not worker or not found then
        return
    end

    local epoch = C.rmtls_engine_epoch(current.handle)
    if not reported or reported.epoch ~= epoch then
        local status = current:status()
        if not status then
            return
        end

        if reported and dict then
            dict:delete(reported.info)
        end

        reported = {
            epoch = epoch,
            info = concat({ "policy_info", worker, status.digest }, SEPARATOR),
        }
    end

    if dict then
        dict:safe_set(reported.info, 1, GAUGE_TTL)
    end
end


-- Warns once of each CRL of the policy that expires while it is in force.
local function warn_of_expired()
    local found, current = pcall(engine.current)
    if not found then
        return
    end

    while true do
        local text = library.read("metrics", function(out)
            return C.rmtls_engine_expired_crl(current.handle, ngx.time(), out)
        end)
        if not text then
            return
        end

        -- Without room in the dictionary every worker warns.
        local added, err
        if dict then
            added, err = dict:safe_add(KNOWN .. "crl" .. SEPARATOR .. text, true, WARNED_TTL)
        end

        if added or err ~= "exists" then
            ngx_log(WARN, "[mtls] ", text)
        end
    end
end


-- Adds the CRLs of the policy of this worker to all.
local function report_crls(all)
    local found, current = pcall(engine.current)
    if not found then
        return
    end

    local next_update = ffi.new("int64_t[1]")
    local now = ngx.time()
    for i = 0, MAX_CRLS - 1 do
        local file, issuer = library.read("metrics", function(a, b)
            return C.rmtls_engine_crl(current.handle, i, a, b, next_update)
        end, true)
        if not file then
            return
        end

        if next_update[0] ~= NO_TIME then
            local key = concat({ "crl_time_to_next_update_seconds", (file:gsub("%c", "?")), (issuer:gsub("%c", "?")) },
                               SEPARATOR)
            -- Of several in a file the last to end is the one that counts.
            all[key] = math.max(all[key] or -math.huge, tonumber(next_update[0]) - now)
        end
    end
end


local function flush()
    C.rmtls_metrics_take(events)
    for i = 0, STATUS.EVENTS - 1 do
        if events[i] ~= 0 then
            local event = EVENTS[i]
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
                -- Kept, and tried again.
                warn_once("lua_shared_dict " .. dict_name .. " takes no more counts (" .. err
                          .. "): make it larger")
            end
        end
    end
end


local function tick(premature)
    if premature then
        running = false
    else
        report()
        warn_of_expired()
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


-- Called in every phase in which the library may count.
function _M.touch()
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


-- Adds 1 to a counter of the table above, by its labels. Where values come from outside, the first
-- 100 of a label (200 of a route) count by themselves and the rest as "other".
function _M.count(name, a, b)
    local at = slot(family_of(name, "counter"), a, b)
    pending[at] = pending[at] + 1
    if not running then
        start()
    end
end


-- Adds a value to a histogram of the table above, by its labels.
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
    local slots = routes[route]
    if not slots then
        -- Before routes is looked at: this may make a new one.
        label_of("route", route)
        slots = routes[route] or {}
        routes[route] = slots
    end

    local at
    if what >= CLASS then
        at = slot(FAMILY.responses_total, route, (what - CLASS) .. "xx")
    else
        at = slot(FAMILY.requests_total, route, what == 0 and "pass" or what)
    end

    slots[what] = at

    return at
end


local function verdict_slot(verdict)
    local text = "NONE"
    if verdict >= 0 then
        text = library.read("verdict", function(out)
            return C.rmtls_verdict_text(verdict, out)
        end)
    end

    verdicts[verdict] = slot(FAMILY.verdicts_total, text)

    return verdicts[verdict]
end


-- A decision of access(): route "" for none, status 0 for a request that may go on, the number of
-- the verdict or -1, and whether a client that is not trusted counts as the anonymous consumer.
function _M.decided(route, status, verdict, anonymous)
    local slots = routes[route]
    local at = slots and slots[status] or route_slot(route, status)
    pending[at] = pending[at] + 1

    -- A route that does not judge has no verdict, and neither has a misdirected request.
    if verdict >= 0 or anonymous or status == 401 or status == 403 then
        at = verdicts[verdict] or verdict_slot(verdict)
        pending[at] = pending[at] + 1
    end

    if not running then
        start()
    end
end


-- The end of a request that access() decided about.
function _M.responded(route, status)
    local class = CLASS + floor(status / 100)
    local slots = routes[route]
    local at = slots and slots[class] or route_slot(route, class)
    pending[at] = pending[at] + 1
    if not running then
        start()
    end
end


-- Seconds that a trusted certificate in use is still good for; consumer: as client() gives it.
function _M.expires(consumer, left)
    _M.observe("certificate_time_to_expiry_seconds", left,
               consumer and (consumer.username or consumer.custom_id or consumer.id) or "")
end


-- Which policy each worker serves, as the node knows it.
local function add_policies(all)
    local found, current = pcall(engine.current)
    local node = found and current:node()
    if not node then
        return
    end

    all.policy_in_force_epoch = node.epoch
    for _, worker in ipairs(node.workers) do
        local suffix = SEPARATOR .. worker.worker
        all["policy_epoch" .. suffix] = worker.epoch
        all["policy_in_force_since_seconds" .. suffix] = worker.since
        all["policy_reload_failing" .. suffix] = worker.failed and 1 or 0
    end
end


-- { [key] = number } of all workers, as far as they can be had.
local function values()
    flush()
    report()
    local all = {}
    if dict then
        for _, key in ipairs(dict:get_keys(0)) do
            if key:sub(1, 1) ~= KNOWN then
                all[key] = dict:get(key)
            end
        end

    else
        warn_once("lua_shared_dict " .. dict_name .. " is not in nginx.conf: every worker counts for itself")
        if reported then
            all[reported.info] = 1
        end
    end

    for i = 1, count do
        if pending[i] ~= 0 then
            all[keys[i]] = (all[keys[i]] or 0) + pending[i]
        end
    end

    report_crls(all)
    all.metrics_shared = dict and 1 or 0
    add_policies(all)

    return all
end


local function split(key)
    local parts = {}
    for part in (key .. SEPARATOR):gmatch("([^%z]*)%z") do
        parts[#parts + 1] = part
    end

    return parts
end


-- { [family name] = { [joined label values] = number, or { [bucket] = number } } }
local function samples()
    local found = {}
    for _, family in ipairs(FAMILIES) do
        local sets = {}
        found[family.name] = sets
        for _, labels in ipairs(family.zero or {}) do
            sets[concat(labels, SEPARATOR)] = 0
        end
    end

    for key, value in pairs(values()) do
        local name, set = key:match("^([^%z]*)%z?(.*)$")
        local family = FAMILY[name]
        local sets = found[name]
        if family and family.buckets then
            local bucket
            set, bucket = set:match("^(.*)%z([^%z]*)$")
            sets[set] = sets[set] or {}
            sets[set][bucket] = value
        elseif family then
            sets[set] = value
        end
    end

    return found
end


local function number(value)
    if value == floor(value) and value < 2 ^ 53 then
        return ("%d"):format(value)
    end

    return ("%.15g"):format(value)
end


local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }


-- label="value",label="value"
local function labels_of(family, set)
    local given = #family.labels > 0 and split(set) or {}
    local labels = {}
    for i, label in ipairs(family.labels) do
        labels[i] = label .. '="' .. (given[i] or ""):gsub('[\\"\n]', ESCAPES) .. '"'
    end

    return concat(labels, ",")
end


-- Calls each(set, value) in the order of the sets.
local function in_order(sets, each)
    local names = {}
    for set in pairs(sets) do
        names[#names + 1] = set
    end

    sort(names)
    for _, set in ipairs(names) do
        each(set, sets[set])
    end
end


-- Buckets as Prometheus wants them, each with those below it: each(bound, number). The last number.
local function cumulate(family, buckets, each)
    local sum = 0
    for _, bound in ipairs(family.buckets) do
        sum = sum + (buckets[tostring(bound)] or 0)
        each(tostring(bound), sum)
    end

    sum = sum + (buckets["+Inf"] or 0)
    each("+Inf", sum)

    return sum
end


-- All metrics in the text format of Prometheus, version 0.0.4.
function _M.text()
    local found = samples()
    local lines = {}
    local function line(text)
        lines[#lines + 1] = text
    end

    for _, family in ipairs(FAMILIES) do
        local name = PREFIX .. family.name
        line("# HELP " .. name .. " " .. family.help)
        line("# TYPE " .. name .. " " .. family.type)
        in_order(found[family.name], function(set, value)
            local labels = labels_of(family, set)
            local braced = labels == "" and "" or "{" .. labels .. "}"
            if not family.buckets then
                return line(name .. braced .. " " .. number(value))
            end

            local bucket = name .. "_bucket{" .. labels .. ',le="'
            local all = cumulate(family, value, function(bound, sum)
                line(bucket .. bound .. '"} ' .. number(sum))
            end)
            line(name .. "_sum" .. braced .. " " .. number(value.sum or 0))
            line(name .. "_count" .. braced .. " " .. number(all))
        end)
    end

    line("")

    return concat(lines, "\n")
end


-- The same as tables: { requests_total = { payments = { pass = 3 } }, ... }. A histogram is
-- { count, sum }.
function _M.table()
    local all = {}
    for name, sets in pairs(samples()) do
        local family = FAMILY[name]
        for set, value in pairs(sets) do
            if family.buckets then
                value = { count = cumulate(family, value, function() end), sum = value.sum or 0 }
            end

            local path = #family.labels > 0 and split(set) or {}
            local at, key = all, name
            for _, part in ipairs(path) do
                at[key] = at[key] or {}
                at, key = at[key], part
            end

            at[key] = value
        end
    end

    return all
end


return _M
