-- Fetches the bundles of trust domains that the policy names by URL, in a timer of each worker; one worker of the
-- node at a time fetches each. The library checks a bundle and keeps it in state_dir, where the watch of the policy
-- finds it. While a URL does not answer, the last bundle serves.

local ffi = require "ffi"
local http = require "resty.mtls.internal.net.http"
local lease = require "resty.mtls.internal.net.lease"
local library = require "resty.mtls.internal.library"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local worker_store = require "resty.mtls.internal.net.worker_store"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local epoch_of = C.rmtls_engine_epoch
local NOT_FOUND = CONST.NOT_FOUND
local max = math.max
local min = math.min
local ngx_log = ngx.log


-- Seconds between two looks at what is due.
local INTERVAL = 1
-- Seconds until a URL that failed is tried again; and until another worker tries where a fetch has not ended.
local RETRY, UNFINISHED = 3, 30
-- Fewest and most seconds between two fetches of a bundle.
local MIN_REFRESH, MAX_REFRESH = 2, 86400
-- Milliseconds
local TIMEOUT = 10000
local MAX_BYTES = 4194304
-- Most URLs of a policy.
local MAX_URLS = 1000


local _M = {}

local dict_name
local running = false
local urls, urls_epoch = {}, nil
-- The last error of each URL.
local reported = {}
local refresh = ffi.new("uint32_t[1]")


-- init_by_lua*
function _M.init(shared_dict)
    dict_name = shared_dict
end


local function list_urls(current)
    urls, urls_epoch = {}, C.rmtls_engine_epoch(current.handle)
    for index = 0, MAX_URLS - 1 do
        urls[index + 1] = library.read("bundles", function(url)
            return C.rmtls_engine_bundle_url(current.handle, index, url)
        end)
        if not urls[index + 1] then
            return
        end
    end
end


-- Seconds of the monotonic clock.
local function monotonic_now()
    return monotonic_clock.now() / 1000
end


-- When a bundle is to be fetched next, by the monotonic clock.
local function due_at(store, url)
    return store:get("bundle:due:" .. url) or 0
end


local function set_due(store, url, seconds)
    store:safe_set("bundle:due:" .. url, monotonic_now() + seconds, MAX_REFRESH + UNFINISHED)
end


-- The seconds until the next fetch; or nil and an error. nil alone: another policy came into force.
local function fetch(current, url)
    local response, err = http.request {
        url = url, origin = http.OPERATOR, kind = "bundle", timeout = TIMEOUT, max_bytes = MAX_BYTES,
    }
    if not response then
        return nil, err
    end

    if response.status ~= 200 then
        return nil, "status " .. response.status
    end

    local ok, why, status = library.try("bundle", function(message)
        return C.rmtls_engine_store_bundle(current.handle, url, #url, response.body, #response.body, refresh, message)
    end)
    if not ok then
        return nil, status ~= NOT_FOUND and why:gsub("^bundle: ", "") or nil
    end

    return min(max(tonumber(refresh[0]), MIN_REFRESH), MAX_REFRESH)
end


local function update(current, store, url)
    local held = lease.take(store, "bundle:" .. url)
    if not held then
        return
    end

    -- Another worker may have fetched it since.
    if due_at(store, url) <= monotonic_now() then
        set_due(store, url, UNFINISHED)
        local seconds, err = fetch(current, url)
        set_due(store, url, seconds or RETRY)
        if not seconds and err and reported[url] ~= err then
            ngx_log(ngx.WARN, "[mtls] bundle not updated, the last one serves: ", url, ": ", err)
        end

        reported[url] = err
    end

    held:release()
end


local function update_all(current)
    if urls_epoch ~= C.rmtls_engine_epoch(current.handle) then
        list_urls(current)
    end

    local store = worker_store.of(dict_name)
    for _, url in ipairs(urls) do
        if due_at(store, url) <= monotonic_now() then
            update(current, store, url)
        end
    end
end


local function run(premature, current)
    if premature then
        return
    end

    local ok, err = pcall(update_all, current)
    if not ok then
        ngx_log(ngx.ERR, "[mtls] bundle: ", err)
    end

    -- If this fails, the next handshake or request starts the timer again.
    running = urls[1] and ngx.timer.at(INTERVAL, run, current)
    if urls[1] and not running then
        urls_epoch = nil
    end
end


-- Every phase calls it, since nginx does not run Lua at the start of a worker without a directive of its own.
function _M.ensure_running(current)
    if running or urls_epoch == epoch_of(current.handle) or not ngx.worker.id() then
        return
    end

    list_urls(current)
    if urls[1] then
        running = ngx.timer.at(0, run, current)
        urls_epoch = running and urls_epoch
    end
end


return _M
