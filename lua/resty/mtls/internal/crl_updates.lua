-- Fetches the CRLs that the policy names by URL, in a timer of each worker. One worker of the node fetches each;
-- the others read what it fetched from state_dir, or from the shared dictionary if it has at most 1 MB. Where there
-- is neither, every worker fetches for itself. The bytes never are one Lua string, and are parsed, verified and
-- written by the library on a thread beside the event loop.

local ffi = require "ffi"
local engine = require "resty.mtls.internal.engine"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local metrics = require "resty.mtls.internal.metrics"
local revocation_sources = require "resty.mtls.internal.revocation_sources"
local shortage = require "resty.mtls.internal.shortage"
local worker_store = require "resty.mtls.internal.net.worker_store"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local epoch_of = C.rmtls_engine_epoch
local OK = CONST.OK
local floor = math.floor
local max = math.max
local min = math.min
local ngx_log = ngx.log
local ngx_time = ngx.time

local WARN = ngx.WARN

-- Seconds between two looks at what is due.
local INTERVAL = 1
-- Seconds between two fetches of a CRL without `refresh`: half of what is left until its nextUpdate, within these.
local MIN_REFRESH, MAX_REFRESH = 60, 86400
-- Seconds until a CRL that could not be fetched is tried again, at most.
local RETRY = 30
-- Most bytes of a CRL in the shared dictionary.
local MAX_SHARED = 1048576
-- Seconds between two questions whether a CRL has been loaded.
local LOADING_POLL = 0.01
-- Seconds that the lease of a fetch outlives its time.
local LEASE_GRACE = 5
-- Most CRLs of a policy.
local MAX_URLS = 1000


local _M = {}

local dict_name, state_dir
local running = false
local busy = false
-- The sources of the policy with this epoch.
local sources, sources_epoch = {}, nil
-- What is kept over a change of the policy, by key.
local known = {}
local values = ffi.new("rmtls_crl_url")
local is_loaded = ffi.new("int32_t[1]")


-- init_by_lua*
function _M.init(shared_dict, directory)
    dict_name, state_dir = shared_dict, directory
end


-- What the workers share about a CRL. Without the dictionary it is this worker's own.
local function get(source, name)
    return (worker_store.of(dict_name):get("crl:" .. source.key .. ":" .. name))
end


local function set(source, name, value)
    worker_store.of(dict_name):safe_set("crl:" .. source.key .. ":" .. name, value)
end


-- Whether no other worker fetches this CRL now.
local function take_lease(source)
    local added, err = worker_store.of(dict_name):safe_add("crl:" .. source.key .. ":lease", ngx.worker.pid(),
                                                           source.timeout / 1000 + LEASE_GRACE)

    return added or err == "no memory"
end


local function release_lease(source)
    worker_store.of(dict_name):delete("crl:" .. source.key .. ":lease")
end


local function path_of(source)
    return state_dir and state_dir .. "/crl-" .. source.key .. ".der"
end


-- Logs an error once, until another one or a success.
local function report(source, err)
    if source.reported ~= err then
        source.reported = err
        if err then
            ngx_log(WARN, "[mtls] CRL not updated: ", source.url, ": ", err)
        end
    end
end


-- Fills `values`; false when the policy in force has no such CRL.
local function read(current, index)
    return library.read("crls", function(url, key)
        return C.rmtls_engine_crl_url(current.handle, index, values, url, key)
    end, true)
end


local function list_sources(current)
    sources, sources_epoch = {}, C.rmtls_engine_epoch(current.handle)
    local by_key = {}
    for index = 0, MAX_URLS - 1 do
        local url, key = read(current, index)
        if not url then
            break
        end

        local http_host, https_host = library.read("crls", function(a, b)
            return C.rmtls_engine_crl_url_proxies(current.handle, index, a, b)
        end, true)
        local source = known[key] or {}
        source.url, source.key, source.index = url, key, index
        source.refresh = values.refresh
        source.max_bytes = values.max_bytes
        source.timeout = values.http_timeout
        source.ssl_verify = values.ssl_verify == 1
        source.http_proxy = http_host ~= "" and { host = http_host, port = tonumber(values.http_proxy_port) } or nil
        source.https_proxy = https_host ~= "" and { host = https_host, port = tonumber(values.https_proxy_port) } or nil
        if values.this_update == 0 then
            -- The policy could not take over what this worker had.
            source.version, source.etag, source.modified = nil, nil, nil
        end

        by_key[key] = source
        sources[#sources + 1] = source
    end

    known = by_key
end


-- Begins to load a CRL from a body or a file, or asks how far that is; with `wait` it ends before the call returns.
-- true and whether it has ended, or nil and an error.
local function begin_load(current, source, body, path, wait)
    local err = library.buffer(1024)
    err.len = 0
    local status = C.rmtls_engine_load_crl_url(current.handle, sources_epoch, source.index, body, path or "",
                                               path and #path or 0, wait and 1 or 0, is_loaded, err)
    if status ~= OK then
        return library.failure("not usable", status, err)
    end

    if err.len > 0 then
        ngx_log(WARN, "[mtls] CRL not saved: ", source.url, ": ", library.text(err))
    end

    return true, is_loaded[0] == 1
end


-- Loads a CRL. Yields. true, or nil and an error.
local function load(current, source, body, path)
    local epoch = sources_epoch
    local ok, ended = begin_load(current, source, body, path)
    while ok and not ended do
        ngx.sleep(LOADING_POLL)
        if epoch ~= sources_epoch then
            return nil, "another policy came into force"
        end

        ok, ended = begin_load(current, source)
    end

    if not ok then
        return nil, ended
    end

    return true
end


local function new_body(source)
    return assert(library.handle("rmtls_crl_body", function(out)
        return C.rmtls_crl_body_new(source.max_bytes, out)
    end, C.rmtls_crl_body_free))
end


-- What another worker, or an earlier one, fetched: a body or a path; nil when there is nothing.
local function shared_bytes(source)
    local bytes = get(source, "bytes")
    if not bytes then
        return nil, path_of(source)
    end

    local body = new_body(source)
    if C.rmtls_crl_body_append(body, bytes, #bytes) ~= OK then
        return nil
    end

    return body
end


-- When to fetch again after a success.
local function next_fetch(current, source, now)
    if source.refresh > 0 then
        return now + source.refresh
    end

    read(current, source.index)
    local left = tonumber(values.next_update) - now

    return now + min(max(floor(left / 2), MIN_REFRESH), MAX_REFRESH)
end


-- Fetches a CRL. true if it is in use now, false if it has not changed; or nil and an error.
local function fetch(current, source)
    local body = new_body(source)
    local parts, size = {}, 0
    local headers = {}
    headers["If-None-Match"] = source.etag
    headers["If-Modified-Since"] = source.modified

    local response, err = http.request {
        url = source.url,
        origin = http.OPERATOR,
        kind = "crl",
        timeout = source.timeout,
        max_bytes = source.max_bytes,
        ssl_verify = source.ssl_verify,
        http_proxy = source.http_proxy,
        https_proxy = source.https_proxy,
        headers = headers,
        sink = function(part)
            C.rmtls_crl_body_append(body, part, #part)
            size = size + #part
            if size <= MAX_SHARED then
                parts[#parts + 1] = part
            else
                parts = {}
            end
        end,
    }
    if not response then
        return nil, err
    end

    if response.status == 304 then
        return false
    end

    if response.status ~= 200 then
        return nil, "status " .. response.status
    end

    if sources_epoch ~= C.rmtls_engine_epoch(current.handle) then
        return nil, "another policy came into force"
    end

    local ok
    ok, err = load(current, source, body, path_of(source))
    if not ok then
        return nil, err
    end

    if not state_dir then
        set(source, "bytes", size <= MAX_SHARED and table.concat(parts) or nil)
    end

    source.etag, source.modified = response.headers.etag, response.headers["last-modified"]
    set(source, "etag", source.etag)
    set(source, "modified", source.modified)
    source.version = ngx.now() .. ":" .. ngx.worker.pid()
    set(source, "version", source.version)

    return true
end


local function run_fetch(premature, current, source)
    if premature then
        return
    end

    local ok, updated, err = pcall(fetch, current, source)
    if not ok then
        updated, err = nil, updated
    end

    local now = ngx_time()
    local again
    if updated == nil then
        report(source, tostring(err))
        revocation_sources.record(source.url, "crl", err)
        again = now + min(RETRY, source.refresh > 0 and source.refresh or RETRY)
        metrics.count("crl_updates_total", "failed")
    else
        report(source, nil)
        again = next_fetch(current, source, now)
        if read(current, source.index) == source.url then
            revocation_sources.record(source.url, "crl", nil, {
                next_update = tonumber(values.next_update),
                entries = tonumber(values.entries),
                bytes = tonumber(values.bytes),
            })
        end

        metrics.count("crl_updates_total", updated and "updated" or "unchanged")
        if updated then
            ngx_log(ngx.NOTICE, "[mtls] CRL updated: ", source.url)
        end
    end

    source.again = again
    set(source, "next", again)
    release_lease(source)
    source.fetching = false
end


local function is_due(again, now)
    -- A time that is too far ahead was written before the clock was set back.
    return not again or now >= again or again > now + 2 * MAX_REFRESH
end


local function update(current, source)
    local now = ngx_time()
    local version = get(source, "version")
    if version and version ~= source.version and not source.fetching then
        local body, path = shared_bytes(source)
        -- What is not shared, this worker fetches for itself.
        source.alone = not body and not path
        local ok, err
        if not source.alone then
            ok, err = load(current, source, body, path)
        end

        source.version = version
        -- A conditional request asks about what this worker has in use.
        source.etag = ok and get(source, "etag") or nil
        source.modified = ok and get(source, "modified") or nil
        if err then
            report(source, err)
        end
    end

    local again = get(source, "next")
    if source.alone then
        again = source.again
    end

    if source.fetching or not is_due(again, now) or not source.alone and not take_lease(source) then
        return
    end

    source.fetching = true
    local ok, err = ngx.timer.at(0, run_fetch, current, source)
    if not ok then
        source.fetching = false
        release_lease(source)
        shortage.report_timer("no timer to fetch a CRL: ", err)
    end
end


local function tick(premature)
    if premature or busy then
        return
    end

    busy = true
    local ok, err = pcall(function()
        local current = engine.current()
        if sources_epoch ~= C.rmtls_engine_epoch(current.handle) then
            list_sources(current)
        end

        for _, source in ipairs(sources) do
            update(current, source)
            if sources_epoch ~= C.rmtls_engine_epoch(current.handle) then
                break
            end
        end
    end)
    busy = false
    if not ok then
        ngx_log(ngx.ERR, "[mtls] CRLs not updated: ", err)
    end
end


-- The URLs of the CRLs of the policy.
function _M.urls()
    local urls = {}
    for i, source in ipairs(sources) do
        urls[i] = source.url
    end

    return urls
end


-- Starts the updates of this worker, if the policy names a URL. What was fetched before is in use when it returns, so
-- that no worker of a reloaded nginx.conf serves without it.
function _M.start(current)
    if running or not dict_name or sources_epoch == epoch_of(current.handle) or ngx.worker.exiting() then
        return
    end

    list_sources(current)
    if not sources[1] then
        return
    end

    running = true
    for _, source in ipairs(sources) do
        local version = get(source, "version")
        local body, path = shared_bytes(source)
        if (body or path) and begin_load(current, source, body, path, true) then
            source.version = version or "file"
        end
    end

    local ok, err = ngx.timer.at(0, tick)
    if ok then
        ok, err = ngx.timer.every(INTERVAL, tick)
    end

    if not ok then
        running, sources_epoch = false, nil
        shortage.report_timer("no timer to fetch CRLs: ", err)
    end
end


return _M
