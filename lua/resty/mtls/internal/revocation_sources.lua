-- The last results of the sources of revocation statuses (OCSP responders, and CRLs by URL), for status() and metrics.
--
-- They are in the shared dictionary, so that any worker reports what any worker has found: a numbered place for each of
-- the last MAX_SOURCES sources, and the number by URL. Without the dictionary they are those of the worker.

local metric_families = require "resty.mtls.internal.metric_families"
local metrics = require "resty.mtls.internal.metrics"
local url_parser = require "resty.mtls.internal.net.url"
local worker_store = require "resty.mtls.internal.net.worker_store"


local max = math.max
local metric_key = metric_families.key
local min = math.min
local ngx_time = ngx.time


-- Sources that are remembered. With more of them, the last one replaces the first.
local MAX_SOURCES = 200
-- Seconds for which a source is remembered that is no longer asked. A CRL of the policy is fetched once a day at least.
local REMEMBERED_FOR = 2 * 86400
-- Seconds after a failure for which a source is known to be down (shared_cache.lua).
local DOWN_FOR = 60
local MAX_ERROR = 500
local MAX_LABEL = 128
-- Values of nextUpdate above it mean none.
local MAX_TIME = 2 ^ 53
local COUNT, PLACE, NUMBER = "sources:count", "sources:place:", "sources:of:"
local FORMAT = "%d %d %.0f %.0f %.0f %s %s\n%s"
local PATTERN = "^(%d+) (%d+) (%d+) (%d+) (%d+) (%l+) (%S+)\n(.*)$"


local _M = {}

local dict_name = "mtls"


-- init_by_lua*
function _M.init(shared_dict)
    dict_name = shared_dict
end


local function decode(text)
    local answered_at, failed_at, next_update, entries, bytes, kind, url, err = (text or ""):match(PATTERN)
    if not url then
        return nil
    end

    return {
        answered_at = tonumber(answered_at),
        failed_at = tonumber(failed_at),
        next_update = tonumber(next_update),
        entries = tonumber(entries),
        bytes = tonumber(bytes),
        kind = kind,
        url = url,
        error = err ~= "" and err or nil,
    }
end


-- The number of the place of a URL, and what is there.
local function place_of(url)
    local store = worker_store.of(dict_name)
    local number = store:get(NUMBER .. url)
    local seen = number and decode(store:get(PLACE .. number))
    if seen and seen.url == url then
        return number, seen
    end

    store:safe_add(COUNT, 0)
    local count = store:incr(COUNT, 1)
    if not count then
        return nil
    end

    number = (count - 1) % MAX_SOURCES + 1
    store:safe_set(NUMBER .. url, number, REMEMBERED_FOR)

    return number, { answered_at = 0, failed_at = 0, next_update = 0, entries = 0, bytes = 0 }
end


-- Records that a source (kind "ocsp" or "crl") has failed with err, or has answered. crl: { next_update, entries,
-- bytes } of the CRL that it has given.
function _M.record(url, kind, err, crl)
    local number, seen = place_of(url)
    if not number then
        return
    end

    local text = ""
    if err then
        seen.failed_at = ngx_time()
        text = tostring(err):gsub("%c", "?"):sub(1, MAX_ERROR)
    else
        seen.answered_at = ngx_time()
    end

    crl = crl or seen
    local value = FORMAT:format(seen.answered_at, seen.failed_at, max(min(crl.next_update, MAX_TIME), 0), crl.entries,
                                crl.bytes, kind, url, text)
    -- Without room for it, the source is not reported.
    worker_store.of(dict_name):safe_set(PLACE .. number, value, REMEMBERED_FOR)
end


local function all_sources()
    local store, list = worker_store.of(dict_name), {}
    for number = 1, min(store:get(COUNT) or 0, MAX_SOURCES) do
        list[#list + 1] = decode(store:get(PLACE .. number))
    end

    return list
end


local function positive(number)
    return number > 0 and number or nil
end


-- The sources that were asked in the last two days: { { url, kind, state, error, answered_at, failed_at, next_update,
-- entries, bytes }, ... }, in the order of their URLs; nil if there are none. `urls`: those of the policy, which are
-- listed with the state "not asked" otherwise.
function _M.list(urls)
    local list, known = {}, {}
    for _, seen in ipairs(all_sources()) do
        known[seen.url] = true
        list[#list + 1] = {
            url = seen.url,
            kind = seen.kind,
            state = seen.error and "down" or "up",
            error = seen.error,
            answered_at = positive(seen.answered_at),
            failed_at = positive(seen.failed_at),
            next_update = seen.next_update < MAX_TIME and positive(seen.next_update) or nil,
            entries = seen.bytes > 0 and seen.entries or nil,
            bytes = positive(seen.bytes),
        }
    end

    for _, url in ipairs(urls) do
        if not known[url] then
            known[url] = true
            list[#list + 1] = { url = url, kind = "crl", state = "not asked" }
        end
    end

    table.sort(list, function(a, b)
        return a.url < b.url
    end)

    return list[1] and list
end


local function host_of(url)
    local parsed = url_parser.parse(url)

    return parsed and #parsed.authority <= MAX_LABEL and parsed.authority or "other"
end


-- Adds the gauges of the sources to all: of several CRLs of a host, the first to end counts, and the sum of their
-- sizes.
local function report(all)
    local now = ngx_time()
    local by_host = {}
    local down = { ocsp = 0, crl = 0 }
    for _, seen in ipairs(all_sources()) do
        local host = host_of(seen.url)
        local failing = metric_key("revocation_source_failing", seen.kind, host)
        all[failing] = max(all[failing] or 0, seen.error and 1 or 0)
        if seen.error and now - seen.failed_at < DOWN_FOR then
            down[seen.kind] = down[seen.kind] + 1
        end

        if seen.bytes > 0 then
            local sums = by_host[host] or { next_update = MAX_TIME, entries = 0, bytes = 0 }
            by_host[host] = sums
            sums.next_update = min(sums.next_update, seen.next_update)
            sums.entries = sums.entries + seen.entries
            sums.bytes = sums.bytes + seen.bytes
        end
    end

    for kind, count in pairs(down) do
        all[metric_key("revocation_sources_down", kind)] = count
    end

    for host, sums in pairs(by_host) do
        if sums.next_update < MAX_TIME then
            all[metric_key("crl_host_time_to_next_update_seconds", host)] = sums.next_update - now
        end

        all[metric_key("crl_host_entries", host)] = sums.entries
        all[metric_key("crl_host_bytes", host)] = sums.bytes
    end
end


metrics.on_read(report)


return _M
