-- Revocation status of client certificates. The engine lists the sources of a certificate (OCSP responders and CRLs)
-- and verifies their answers; this module fetches them.
--
-- What other nodes of a fleet have fetched counts where no source answers, and at once if it revokes. Nothing in Redis
-- shortens the time of a source, is used where a source has answered, or replaces a newer answer.
--
-- A driver gets the status of one certificate, in a timer: it asks the sources one after the other, the next when the
-- one before has failed or has not answered for some seconds. Requests only wait for the driver. There is one for each
-- status and worker, and what it fetches is shared between workers (shared_cache.lua, answers.lua).
--
-- Another policy may come into force meanwhile. The key of a status is a digest of everything that it depends on:
-- certificates, store, CRLs, ssl_verify, proxies, time-outs. If the new policy has the same key, an answer is verified
-- under it. Otherwise the driver is superseded: no source has failed, and no status is set. ARCHITECTURE.md lists all
-- yields.

local ffi = require "ffi"
local answers = require "resty.mtls.internal.answers"
local certificate = require "resty.mtls.certificate"
local connection = require "resty.mtls.internal.connection"
local engine_of_worker = require "resty.mtls.internal.engine"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local lrucache = require "resty.lrucache"
local metrics = require "resty.mtls.internal.metrics"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local semaphore = require "ngx.semaphore"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local shortage = require "resty.mtls.internal.shortage"
local sources_seen = require "resty.mtls.internal.revocation_sources"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local SOURCE_OCSP = CONST.REVOCATION_SOURCE_OCSP
local INVALID = CONST.INVALID
local NOT_FOUND = CONST.NOT_FOUND
local STATUS_GOOD = CONST.REVOCATION_STATUS_GOOD
local STATUS_REVOKED = CONST.REVOCATION_STATUS_REVOKED
local STATUS_UNKNOWN = CONST.REVOCATION_STATUS_UNKNOWN
local STATUS_PARSING = CONST.REVOCATION_STATUS_PARSING
local STATUS_PENDING = CONST.REVOCATION_STATUS_PENDING
local SHORTAGE = shared_cache.SHORTAGE
local SUPERSEDED = shared_cache.SUPERSEDED
local concat = table.concat
local floor = math.floor
local max = math.max
local min = math.min
local monotonic = monotonic_clock.now
local ngx_log = ngx.log
local ngx_sleep = ngx.sleep
local ngx_time = ngx.time
local pairs = pairs
local pcall = pcall
local tonumber = tonumber
local tostring = tostring

-- Seconds after a failure in which no source is tried again, and milliseconds.
local RETRY_AFTER = 5
local RETRY_MS = 5000
-- Milliseconds for which sources are known to be down after a failure, and an unknown status is fetched again by
-- itself after the last request that needed it.
local DOWN_FOR = 60000
-- Most milliseconds until the next source is asked, and the part of the time-out.
local NEXT_SOURCE_AFTER = 3000
local NEXT_SOURCE_PART = 4
local MAX_OCSP = 65536
-- Seconds between two questions whether a large CRL has been parsed.
local PARSING_POLL = 0.01
local STILL_PARSING = "the CRL is still being parsed"
-- Seconds by which the cached times of two workers may differ.
local CLOCK_TOLERANCE = 1
-- Seconds for which a request that has waited long enough is let in without a status, with those after it.
local WAITED_FOR = 2
-- An answer that another worker fetched within these seconds, and a fifth of cert_cache_ttl, is not fetched again.
local FRESH = 5
-- Seconds for which an answer is kept that came after its policy was replaced, and is not verified.
local UNVERIFIED_FOR = 30
-- Milliseconds at the end of the time-out, a part of it at most, in which an answer "good" of another node counts
-- although a source may still answer.
local FLEET_TIME = 1000
local FLEET_PART = 4
-- Milliseconds for a look-up in Redis, and for which a first request waits for one while the sources are down.
local FLEET_TIMEOUT = 1000
local FLEET_WAIT = 300
-- Answers in Redis that a worker remembers for RETRY_AFTER: a CRL is needed for many certificates.
local FLEET_ENTRIES = 16
local MAX_REFRESH_AHEAD = 3600
-- Milliseconds after which a driver that shows no sign of life is dead: its request was aborted, or nginx had no
-- connection for its timer.
local DRIVER_DEAD = 3000
-- Seconds in which a timer without delay must have started.
local START_WAIT = 0.05
-- Drivers in timers at a time: lua_max_running_timers is 256 by default.
local MAX_DRIVERS = 100
local MAX_PROBES = 1000
local MAX_STATUSES = 8192
local KEEPER_INTERVAL = 1
-- Values of the label `answer`.
local ANSWERS = { [STATUS_GOOD] = "good", [STATUS_REVOKED] = "revoked" }
-- Longest URL of a GET request to a responder (RFC 5019 section 5).
local MAX_GET = 255
-- Milliseconds that must be left for it.
local MIN_GET = 20
-- The start of an OCSPResponse that is an error, and the errors after which a request with a nonce is tried:
-- malformedRequest, internalError, sigRequired, unauthorized.
local OCSP_ERROR = "\48\3\10\1"
local WANTS_NONCE = { [1] = true, [2] = true, [5] = true, [6] = true }


local _M = {}

-- Drivers at work, by the key of the status.
local drivers = {}
local running = 0
-- Statuses that are unknown and fetched again in the background: { lookup, due, wanted }, by key.
local probes, probe_count = {}, 0
-- When the last driver of a status ended without an answer, and the reason, by key.
local failures = lrucache.new(MAX_STATUSES)
-- What Redis has, by the key of the source: bytes, or "" for nothing.
local of_fleet = lrucache.new(FLEET_ENTRIES)
local rejected_at
-- Whether init_by_lua* ran in this Lua VM, and when the keeper ran last.
local is_worker_vm
local keeper_beat = 0
local generations = {}


-- init_by_lua*. In a VM that was not forked (lua_code_cache off) no keeper is started, because it would keep the VM of
-- a request alive.
function _M.init()
    is_worker_vm = true
end


local function fetch_options(engine, plan)
    local options = ffi.new("rmtls_fetch_options")
    local http_proxy, https_proxy = library.read("revocation", function(http_host, https_host)
        return C.rmtls_engine_fetch_options(engine.handle, plan, options, http_host, https_host)
    end, true)

    local function proxy(host, port)
        if host ~= "" then
            return { host = host, port = tonumber(port) }
        end
    end

    return {
        timeout = options.http_timeout,
        ssl_verify = options.ssl_verify == 1,
        http_proxy = proxy(http_proxy, options.http_proxy_port),
        https_proxy = proxy(https_proxy, options.https_proxy_port),
    }, {
        strict = options.strict == 1,
        wait = options.strict == 1 and options.http_timeout or options.status_wait,
        ttl = tonumber(options.ttl),
        max_crl_bytes = options.max_crl_bytes,
    }
end


-- Distinguishes fetches of the same URL under different options: whether the server is verified, how it is
-- reached, and for how long. Neither failures nor responses are shared between them.
local function failure_scope_of(options)
    local function join(proxy)
        return proxy and proxy.host .. ":" .. proxy.port or ""
    end

    return http.cache_scope() .. concat({ options.timeout, tostring(options.ssl_verify),
                                          join(options.http_proxy), join(options.https_proxy), "" }, " ")
end


local function status_key(engine, client, plan, epoch)
    return library.read("revocation", function(out)
        return C.rmtls_engine_revocation_status_key(engine.handle, client, plan, epoch, ngx_time(), out)
    end)
end


-- Whether the policy in force still needs this status. It is called after every yield and before each call
-- of the engine, because it updates the plan and the epoch of the lookup.
local function is_current(lookup)
    local engine = lookup.engine
    local epoch = C.rmtls_engine_epoch(engine.handle)
    if epoch == lookup.epoch then
        return true
    end

    local plan = lookup.find_plan()
    if not plan or status_key(engine, lookup.client, plan, epoch) ~= lookup.key then
        return false
    end

    lookup.plan, lookup.epoch = plan, epoch

    return true
end


-- The sources of a certificate in the order of the engine: { index, kind, label, url, request, key }.
local function sources_of(lookup)
    if lookup.sources then
        return lookup.sources
    end

    local sources = {}
    local kind = ffi.new("int32_t[1]")
    for index = 0, math.huge do
        local url, request = library.read("revocation", function(a, b)
            return C.rmtls_engine_revocation_source(lookup.engine.handle, lookup.client, lookup.plan, lookup.epoch,
                                                    index, ngx_time(), kind, a, b)
        end, true)
        if not url and request then
            -- A failure must not be taken for the end of the list.
            error(request)
        end

        if not url then
            break
        end

        local key = answers.key(lookup.issuer, http.cache_scope(), kind[0], url, request, lookup.options.ssl_verify)
        sources[index + 1] = {
            index = index,
            kind = kind[0],
            label = kind[0] == SOURCE_OCSP and "ocsp" or "crl",
            url = url,
            request = request,
            key = key,
            unverified_key = ngx.md5(key .. " unverified"),
        }
    end

    lookup.sources = sources

    return sources
end


local answer = ffi.new("rmtls_revocation_answer")


-- Has the engine verify the bytes of a source and cache the status. Returns the state, and the answer without its
-- bytes; or nil, an error, and its kind if the source is not at fault. The caller has just called is_current().
local function verify(lookup, source, bytes, fetched)
    local ok, err, status = library.try("unusable response", function(message)
        return C.rmtls_engine_revocation_response(lookup.engine.handle, lookup.client, lookup.plan, lookup.epoch,
                                                  source.index, bytes, #bytes, fetched, ngx_time(), answer, message)
    end)
    if not ok then
        return nil, err, status ~= INVALID and status ~= NOT_FOUND and SHORTAGE or nil
    end

    return answer.state, {
        kind = source.kind,
        state = answer.state,
        hold = answer.hold == 1,
        fetched = fetched,
        ["until"] = tonumber(answer["until"]),
        this_update = tonumber(answer.this_update),
        next_update = tonumber(answer.next_update),
        crl_entries = tonumber(answer.crl_entries),
        crl_next_update = tonumber(answer.crl_next_update),
    }
end


-- The same for bytes that may be a large CRL, which is parsed meanwhile. Yields.
local function verify_parsed(lookup, source, bytes, fetched, deadline)
    while true do
        if not is_current(lookup) then
            return nil, "another policy came into force", SUPERSEDED
        end

        local state, found, kind = verify(lookup, source, bytes, fetched)
        if state ~= STATUS_PARSING then
            return state, found, kind
        end

        if monotonic() >= deadline then
            return nil, STILL_PARSING, SHORTAGE
        end

        ngx_sleep(PARSING_POLL)
    end
end


-- Has the engine verify one kept answer: the status, and true if it should be fetched again; nil if it gives none. With
-- a driver, waits until a large CRL has been parsed, and yields.
local function use_answer(lookup, source, kept, anyway, driver)
    local now = ngx_time()
    local fetched = kept.fetched
    local ends = min(fetched + lookup.settings.ttl, kept.next_update)
    if anyway and ends <= now then
        fetched = now - max(lookup.settings.ttl - RETRY_AFTER, 0)
    end

    local state, found = verify(lookup, source, kept.bytes, fetched)
    while state == STATUS_PARSING and driver and monotonic() < driver.begun + lookup.options.timeout do
        driver.beat = monotonic()
        ngx_sleep(PARSING_POLL)
        if not is_current(lookup) then
            return nil
        end

        state, found = verify(lookup, source, kept.bytes, fetched)
    end

    if state == STATUS_GOOD then
        if found["until"] > now then
            return state, now >= floor(ends - min((ends - fetched) / 5, MAX_REFRESH_AHEAD))
        end

        return nil
    end

    return state, now >= ends
end


-- Gives the engine the answers that are kept. Returns the status if they have one, and true if it should be fetched
-- again; otherwise nil, nil, and true if a large CRL, which may revoke the certificate, is still being read or parsed.
-- anyway: an answer in force also counts when it was fetched longer ago than cert_cache_ttl, and when a CRL is still
-- being parsed. driver: waits for the parsing, and yields.
local function use_kept(lookup, anyway, driver)
    local due, parsing
    -- All of them, because one may revoke where another does not; and twice then, because the newest counts, and the
    -- engine must know the older ones first.
    for _ = 1, 2 do
        due, parsing = {}, false
        for _, source in ipairs(sources_of(lookup)) do
            local kept, reading = answers.get(lookup.dict, source.key)
            while reading and driver and monotonic() < driver.begun + lookup.options.timeout do
                driver.beat = monotonic()
                ngx_sleep(PARSING_POLL)
                if not is_current(lookup) then
                    return nil
                end

                kept, reading = answers.get(lookup.dict, source.key)
            end

            parsing = parsing or reading
            if kept then
                local state, is_due = use_answer(lookup, source, kept, anyway, driver)
                if state == STATUS_PARSING then
                    parsing = true
                elseif state then
                    due[state] = is_due and due[state] ~= false
                end
            end
        end

        if due[STATUS_REVOKED] == nil or due[STATUS_GOOD] == nil then
            break
        end
    end

    if due[STATUS_REVOKED] ~= nil then
        return STATUS_REVOKED, due[STATUS_REVOKED]
    end

    if due[STATUS_GOOD] ~= nil and (anyway or not parsing) then
        return STATUS_GOOD, due[STATUS_GOOD]
    end

    return nil, nil, parsing
end


local function with(opts, changes)
    local copy = {}
    for name, value in pairs(opts) do
        copy[name] = value
    end

    for name, value in pairs(changes) do
        copy[name] = value ~= "" and value or nil
    end

    return copy
end


-- The response of a server, if its status is 200 (or 304 where that is allowed); or nil, an error, its kind, and true
-- if the server has responded.
local function get_response(opts, deadline, not_modified)
    local left = floor(deadline - monotonic())
    if left < 1 then
        return nil, "timeout"
    end

    local response, err, kind, unusable = http.request(with(opts, { timeout = left }))
    if response and response.status ~= 200 and not (not_modified and response.status == 304) then
        return nil, "status " .. response.status, nil, true
    end

    return response, err, kind, unusable
end


-- Sends the OCSP request in the URL (RFC 6960 appendix A.1). nil without an error when it was not sent, because no time
-- was left or the URL would be too long.
local function get_ocsp(opts, deadline)
    local url = opts.url:gsub("/$", "") .. "/" .. ngx.escape_uri(ngx.encode_base64(opts.body))
    if #url > MAX_GET or deadline - monotonic() < MIN_GET then
        return nil
    end

    return get_response(with(opts, { url = url, method = "", body = "", content_type = "" }), deadline)
end


local function is_nonce_wanted(body)
    return #body == 5 and body:sub(1, 4) == OCSP_ERROR and WANTS_NONCE[body:byte(5)]
end


-- The OCSP response of a responder: by POST; if that fails, by GET; if the response is an error, by POST with a nonce.
-- nil, an error and its kind if there is none.
local function fetch_ocsp(opts, deadline)
    local response, err, kind = get_response(opts, deadline)
    if not response and not kind then
        local get_err, get_kind
        response, get_err, get_kind = get_ocsp(opts, deadline)
        if get_kind then
            err, kind = get_err, get_kind
        end
    end

    if response and is_nonce_wanted(response.body) then
        local with_nonce = library.read("revocation", function(out)
            return C.rmtls_ocsp_with_nonce(opts.body, #opts.body, out)
        end)
        response = with_nonce and get_response(with(opts, { body = with_nonce }), deadline) or response
    end

    return response, err, kind
end


-- Fetches from a source: the bytes, or nil, an error and its kind. What the engine could verify is kept, and
-- source.result has the status, or the error and its kind.
local function fetch(lookup, source, deadline)
    local dict = lookup.dict
    local generation = answers.generation(dict)
    local kept = answers.get_read(dict, source.key)
    if kept and kept.fetched > ngx_time() - min(FRESH, lookup.settings.ttl / 5) then
        return kept.bytes
    end

    local opts = with(lookup.options, { url = source.url, origin = http.CERTIFICATE, kind = source.label,
                                        gzip = true })
    local response, err, kind
    local superseded = answers.get_read(dict, source.unverified_key)
    local bytes = superseded and superseded.fetched > ngx_time() - UNVERIFIED_FOR and superseded.bytes
    if not bytes and source.kind == SOURCE_OCSP then
        response, err, kind = fetch_ocsp(with(opts, {
            method = "POST",
            body = source.request,
            content_type = "application/ocsp-request",
            accept = "application/ocsp-response",
            max_bytes = MAX_OCSP,
        }), deadline)
    elseif not bytes then
        local headers = {}
        if kept then
            headers["If-None-Match"] = kept.etag
            headers["If-Modified-Since"] = kept.last_modified
        end

        local max_bytes = lookup.settings.max_crl_bytes
        response, err, kind = get_response(with(opts, { max_bytes = max_bytes, headers = headers }), deadline, kept)
    end

    if not bytes and not response then
        return nil, err, kind
    end

    local not_modified = response and response.status == 304
    bytes = bytes or not_modified and kept.bytes or response.body
    local state, found, found_kind = verify_parsed(lookup, source, bytes, ngx_time(), deadline)
    source.result = { state, found, found_kind }
    if found_kind ~= SUPERSEDED and found_kind ~= SHORTAGE then
        metrics.count("revocation_answers_total", source.label, ANSWERS[state] or "rejected")
    end

    if found_kind == SUPERSEDED then
        -- The next policy has it verified instead of fetching it again.
        answers.put(dict, source.unverified_key, {
            bytes = bytes, kind = SOURCE_OCSP, state = STATUS_UNKNOWN, hold = false, fetched = ngx_time(),
            this_update = 0, next_update = ngx_time() + UNVERIFIED_FOR,
        }, generation)
    end

    if state and found.this_update >= 0 then
        found.bytes = bytes
        found.etag = not_modified and kept.etag or response and response.headers.etag
        found.last_modified = not_modified and kept.last_modified or response and response.headers["last-modified"]
        answers.put(dict, source.key, found, generation)
        if response then
            -- Nobody waits for Redis.
            ngx.thread.spawn(answers.to_fleet, source.key, found)
        end
    end

    return bytes
end


-- Gets the status from one source: the state; or nil, an error, and its kind if the source is not at fault.
local function ask(lookup, source, deadline)
    source.result = nil
    local opts = { host = source.url, options = lookup.failure_scope, timeout = max(floor(deadline - monotonic()), 1) }
    local generation = answers.generation(lookup.dict)
    local key = lookup.failure_scope .. "source:" .. generation .. ":" .. source.key
    local bytes, err, kind = shared_cache.get(lookup.dict, key, opts, function()
        return fetch(lookup, source, deadline)
    end)
    if not bytes then
        if not kind then
            sources_seen.record(source.url, source.label, err)
        end

        return nil, source.url .. ": " .. err, kind
    end

    local result = source.result
    if not result then
        result = { verify_parsed(lookup, source, bytes, ngx_time(), deadline) }
    end

    local state, why, why_kind = result[1], result[2], result[3]
    if state then
        -- Without a source that gives it, the status is that of another answer.
        local is_crl = source.kind ~= SOURCE_OCSP and why and why.this_update >= 0
        sources_seen.record(source.url, source.label, nil, is_crl and {
            next_update = why.crl_next_update, entries = why.crl_entries, bytes = #bytes,
        } or nil)
        if state ~= STATUS_REVOKED and answers.generation(lookup.dict) ~= generation then
            -- It may be older than the flush, and the engine has it by now.
            C.rmtls_engine_forget_statuses(lookup.engine.handle)

            return nil, source.url .. ": flushed meanwhile", SUPERSEDED
        end

        return state
    end

    if not why_kind then
        sources_seen.record(source.url, source.label, why)
    end

    return nil, source.url .. ": " .. why, why_kind
end


-- What Redis has for a source: bytes, or "". Yields.
local function read_fleet(lookup, source)
    local key = source.key
    local bytes = of_fleet:get(key)
    if bytes then
        return bytes
    end

    bytes = shared_cache.get(lookup.dict, "fleet:" .. key, { timeout = FLEET_TIMEOUT }, function()
        return answers.from_fleet(key) or ""
    end) or ""
    of_fleet:set(key, bytes, RETRY_AFTER)

    return bytes
end


-- The answers of other nodes that this node has verified, and that are newer than its own: { source, found }, and the
-- generation in which they were read. Returns
-- also whether one of them revokes the certificate; the list has the generation in which it was begun. Yields.
local function verify_fleet(lookup, deadline)
    local list = { generation = answers.generation(lookup.dict) }
    for _, source in ipairs(sources_of(lookup)) do
        local bytes = read_fleet(lookup, source)
        local state, found, kind
        if bytes ~= "" and #bytes <= (source.kind == SOURCE_OCSP and MAX_OCSP or lookup.settings.max_crl_bytes) then
            -- 0 for when it was fetched: so "good" is not cached.
            state, found, kind = verify_parsed(lookup, source, bytes, 0, deadline)
        end

        local kept = state and answers.get_read(lookup.dict, source.key)
        local is_newer = state and found.this_update >= 0
                         and (not kept or kept.this_update < found.this_update
                              or kept.this_update == found.this_update and state == STATUS_REVOKED)
        if is_newer then
            -- As if it was fetched in 1970, since the source should be asked again. The seconds tell answers apart.
            found.bytes, found.fetched = bytes, found.this_update % 86400
            if state == STATUS_REVOKED then
                answers.put(lookup.dict, source.key, found, list.generation)

                return list, true
            end

            if found.this_update >= answers.flushed_at(lookup.dict) then
                list[#list + 1] = { source = source, found = found }
            end
        elseif found and not state and not kind and not (rejected_at and monotonic() - rejected_at < DOWN_FOR) then
            rejected_at = monotonic()
            ngx_log(ngx.WARN, "[mtls] fleet: the answer of ", source.url, " in Redis is not used: ", found)
        end
    end

    return list, false
end


-- Keeps the answers of other nodes. They count for some seconds, in which the source is asked again.
local function use_fleet(lookup, list)
    for _, entry in ipairs(list) do
        local kept = answers.get_read(lookup.dict, entry.source.key)
        if not kept or kept.this_update < entry.found.this_update then
            answers.put(lookup.dict, entry.source.key, entry.found, list.generation)
        end
    end

    if not is_current(lookup) then
        return nil
    end

    return use_kept(lookup, true)
end


-- Ends the wait for a driver.
local function finish(driver)
    driver.done = true
    if drivers[driver.key] == driver then
        drivers[driver.key] = nil
    end

    local waiting = -driver.semaphore:count()
    if waiting > 0 then
        driver.semaphore:post(waiting)
    end
end


local function forget_probe(key)
    if probes[key] then
        probes[key] = nil
        probe_count = probe_count - 1
    end
end


-- Fetches the status again in the background, as long as requests need it.
local function add_probe(lookup, wanted)
    if not probes[lookup.key] then
        if probe_count == MAX_PROBES then
            return
        end

        probe_count = probe_count + 1
    end

    probes[lookup.key] = { lookup = lookup, due = monotonic() + RETRY_MS, wanted = wanted }
end


-- Sets the status in the engine for some seconds.
local function set_status(lookup, state, seconds)
    local now = ngx_time()
    C.rmtls_engine_set_revocation_status(lookup.engine.handle, lookup.client, lookup.plan, lookup.epoch, state,
                                         now + seconds, now)
end


-- No source has a definite answer.
local function settle_unknown(driver, reasons)
    local lookup = driver.lookup
    local state, _, parsing = use_kept(lookup, true, driver)
    if state then
        -- An answer in force, although it should have been fetched again.
        add_probe(lookup, driver.wanted)
        return
    end

    if not is_current(lookup) then
        driver.superseded = true
        return
    end

    if parsing then
        driver.shortage = STILL_PARSING
        return
    end

    local why = concat(reasons, "; ")
    if not failures:get(lookup.key) then
        ngx_log(ngx.NOTICE, "[mtls] revocation status unknown: ", why)
    end

    failures:set(lookup.key, { at = monotonic(), why = why }, (DOWN_FOR + lookup.options.timeout) / 1000)
    set_status(lookup, STATUS_UNKNOWN, RETRY_AFTER + CLOCK_TOLERANCE)
    add_probe(lookup, driver.wanted)
end


-- Asks the sources in overlap, until one has a definite answer. The others may still answer afterwards: a revocation
-- counts whenever it is found.
local function ask_sources(driver)
    local lookup = driver.lookup
    local sources = sources_of(lookup)
    local timeout = lookup.options.timeout
    local start = monotonic()
    local deadline = start + timeout
    local pause = min(NEXT_SOURCE_AFTER, timeout / NEXT_SOURCE_PART)
    local wake = semaphore.new()
    local reasons = {}
    local asked, ended, next_at = 0, 0, start
    local shortage_of
    local fleet = answers.has_fleet() and sources[1] and {
        ask_at = start + min(pause, lookup.settings.wait / 2),
        counts_at = deadline - min(FLEET_TIME, timeout / FLEET_PART),
    }

    local function ask_fleet()
        local ok, list, is_revoked = pcall(verify_fleet, lookup, deadline)
        if not ok then
            ngx_log(ngx.ERR, "[mtls] revocation: ", list)
        end

        fleet.list, fleet.done = ok and list or {}, true
        if ok and is_revoked then
            driver.state = STATUS_REVOKED
        end

        wake:post(1)
    end

    local function ask_one(source)
        local ok, state, err, kind = pcall(ask, lookup, source, deadline)
        if not ok then
            state, err = nil, source.url .. ": " .. tostring(state)
            ngx_log(ngx.ERR, "[mtls] revocation: ", err)
        end

        ended = ended + 1
        if state then
            driver.state = driver.state == STATUS_REVOKED and driver.state or state
            driver.is_of_fleet = false
        elseif kind == SUPERSEDED then
            driver.superseded = true
        else
            reasons[source.index + 1] = err
            shortage_of = shortage_of or kind and err
        end

        wake:post(1)
    end

    while not driver.state and not driver.superseded do
        local now = monotonic()
        driver.beat = now
        local wake_at = min(asked < #sources and next_at or now + pause, deadline, now + 1000)
        if fleet then
            wake_at = min(wake_at, not fleet.asked and fleet.ask_at
                                   or not fleet.used and fleet.counts_at > now and fleet.counts_at or wake_at)
        end

        if fleet and not fleet.asked and now < deadline and (now >= fleet.ask_at or ended == #sources) then
            fleet.asked = true
            ngx.thread.spawn(ask_fleet)
        elseif fleet and fleet.done and not fleet.used and (now >= fleet.counts_at or ended == #sources) then
            fleet.used = true
            -- Where this machine lacks something, "good" is not taken from others.
            if fleet.list[1] and not shortage_of and is_current(lookup) then
                driver.state = use_fleet(lookup, fleet.list)
                driver.is_of_fleet = driver.state == STATUS_GOOD
            end
        elseif asked < #sources and now < deadline and (now >= next_at or ended == asked) then
            asked = asked + 1
            next_at = now + pause
            ngx.thread.spawn(ask_one, sources[asked])
        elseif ended == #sources and not (fleet and not fleet.done) or now >= deadline then
            break
        else
            wake:wait(max(0.001, (wake_at - now) / 1000))
        end
    end

    for i, source in ipairs(sources) do
        reasons[i] = reasons[i] or source.url .. (i > asked and ": not asked, no time was left" or ": timeout")
    end

    return reasons, shortage_of
end


-- Gets the status of one certificate, and sets it in the engine. Runs in a timer.
local function drive(premature, driver)
    if driver.started then
        return
    end

    driver.started = true
    if premature then
        driver.lost = true
        return finish(driver)
    end

    running = running + 1
    local ok, err = pcall(function()
        local lookup = driver.lookup
        if not is_current(lookup) then
            driver.superseded = true
            return
        end

        -- Another worker may have it by now.
        local state, is_due = use_kept(lookup, false, driver)
        if state and not is_due then
            driver.state = state
            return
        end

        if not is_current(lookup) then
            driver.superseded = true
            return
        end

        local reasons, shortage_of = ask_sources(driver)
        if driver.state and driver.is_of_fleet then
            add_probe(lookup, driver.wanted)
        elseif driver.state then
            failures:delete(lookup.key)
            forget_probe(lookup.key)
        elseif not is_current(lookup) then
            driver.superseded = true
        elseif shortage_of then
            driver.shortage = shortage_of
        elseif not driver.superseded then
            settle_unknown(driver, reasons)
        end
    end)
    running = running - 1
    if not ok then
        driver.superseded = true
        ngx_log(ngx.ERR, "[mtls] revocation: ", err)
    end

    finish(driver)
end


-- The driver of a status, if it is alive.
local function driver_of(key)
    local driver = drivers[key]
    if driver and driver.beat + DRIVER_DEAD < monotonic() then
        drivers[key] = nil
        return nil
    end

    return driver
end


-- Starts a driver: in a timer; or nil and an error when there is none to be had.
local function start_driver(lookup, wanted)
    local now = monotonic()
    local driver = { key = lookup.key, lookup = lookup, begun = now, beat = now, wanted = wanted,
                     semaphore = semaphore.new() }
    drivers[lookup.key] = driver
    if running >= MAX_DRIVERS then
        return driver, "too many statuses are fetched at a time"
    end

    local ok, err = ngx.timer.at(0, drive, driver)

    return driver, not ok and err or nil
end


-- As long as there are statuses, every second: starts the drivers of those that are about to end or are unknown, and
-- forgets those of before a flush.
local function keep(premature, dict)
    if premature then
        return
    end

    keeper_beat = monotonic()
    local ok, err = pcall(_M.keep_once, dict)
    if not ok then
        ngx_log(ngx.ERR, "[mtls] revocation: ", err)
    end

    ok, err = ngx.timer.at(KEEPER_INTERVAL, keep, dict)
    if not ok then
        keeper_beat = 0
        shortage.report_timer("no timer to refresh revocation statuses: ", err)
    end
end


-- What the keeper does every second.
function _M.keep_once(dict)
    local engine = engine_of_worker.current()
    local generation = answers.generation(dict)
    if (generations[dict] or generation) ~= generation then
        C.rmtls_engine_forget_statuses(engine.handle)
    end

    generations[dict] = generation
    local plan, epoch = ffi.new("uint32_t[1]"), ffi.new("uint32_t[1]")
    while true do
        local refreshed = certificate.wrap(function(out)
            return C.rmtls_engine_take_refresh(engine.handle, out, plan, epoch)
        end)
        if not refreshed then
            break
        end

        local at, of = tonumber(plan[0]), tonumber(epoch[0])
        local lookup = _M.new_lookup(engine, at, of, dict, function() end, refreshed)
        if lookup and not driver_of(lookup.key) and running < MAX_DRIVERS then
            start_driver(lookup, monotonic())
        end
    end

    local now = monotonic()
    for key, probe in pairs(probes) do
        if now - probe.wanted > DOWN_FOR then
            forget_probe(key)
        elseif now >= probe.due and not driver_of(key) and running < MAX_DRIVERS then
            probe.due = now + RETRY_MS
            start_driver(probe.lookup, probe.wanted)
        end
    end
end


local function ensure_keeper(dict)
    local now = monotonic()
    if not is_worker_vm or now - keeper_beat < 5000 then
        return
    end

    keeper_beat = now
    local ok, err = ngx.timer.at(0, keep, dict)
    if not ok then
        keeper_beat = 0
        shortage.report_timer("no timer to refresh revocation statuses: ", err)
    end
end


-- What is needed to get a status: the certificate `presented`, the plan in the policy in force, find_plan() for the
-- next policy. nil where no status is needed.
function _M.new_lookup(engine, plan, epoch, dict, find_plan, presented)
    local lookup = {
        engine = engine,
        -- It owns the handle, also while a timer uses it.
        presented = presented,
        client = presented.handle,
        plan = plan,
        epoch = epoch,
        dict = dict,
        find_plan = find_plan,
    }
    lookup.key = status_key(engine, lookup.client, plan, epoch)
    if not lookup.key then
        return nil
    end

    lookup.options, lookup.settings = fetch_options(engine, plan)
    lookup.issuer = library.read("revocation", function(out)
        return C.rmtls_engine_revocation_issuer(engine.handle, lookup.client, plan, epoch, ngx_time(), out)
    end)
    if not lookup.issuer then
        return nil
    end

    -- What a server answers about certificates of one CA says nothing about those of another: a client of that one must
    -- not mark a source as down for them.
    lookup.failure_scope = failure_scope_of(lookup.options) .. lookup.issuer .. " "

    return lookup
end


-- Whether no source can be expected to answer: each of them, or the last attempt for this status, has failed within
-- the last minute.
local function are_down(lookup)
    if failures:get(lookup.key) then
        return true
    end

    for _, source in ipairs(sources_of(lookup)) do
        if not shared_cache.is_down(lookup.dict, source.url, lookup.failure_scope) then
            return false
        end
    end

    return true
end


-- Waits for a driver, for some milliseconds since it began.
local function wait_for(driver, milliseconds)
    if not driver.started and not driver.done then
        driver.semaphore:wait(min(START_WAIT, milliseconds / 1000))
        if not driver.started then
            return
        end
    end

    while not driver.done do
        local now = monotonic()
        local left = driver.begun + milliseconds - now
        if left <= 0 or driver.beat + DRIVER_DEAD < now then
            return
        end

        driver.semaphore:wait(min(left, 1000) / 1000)
    end
end


-- Gets the revocation status of the client's certificate, or of the one that read_certificate(out) returns,
-- and gives it to the engine, which then decides without waiting. Yields. find_plan() returns the plan in the policy in
-- force, or nil.
--
-- Returns true; nil when another policy came into force and the request must be decided again; or nil and
-- an error when this machine lacks something: the engine then has no status, and the request must not pass.
function _M.resolve(engine, plan, dict, find_plan, read_certificate)
    -- A separate handle, since the connection may be closed when a source responds.
    local presented = certificate.wrap(read_certificate or function(out)
        return C.rmtls_engine_tls_client(engine.handle, connection.ssl(), out)
    end)
    if not presented then
        return true
    end

    local lookup = _M.new_lookup(engine, plan, C.rmtls_engine_epoch(engine.handle), dict, find_plan, presented)
    if not lookup then
        return true
    end

    ensure_keeper(dict)
    local _
    local state, is_due, parsing = use_kept(lookup, false)
    local now = monotonic()
    local driver = driver_of(lookup.key)
    if state then
        if is_due and not driver and running < MAX_DRIVERS then
            start_driver(lookup, now)
        end

        return true
    end

    -- A CRL that is being parsed needs no source.
    local down = not parsing and are_down(lookup)
    local failed = failures:get(lookup.key)
    local probe = probes[lookup.key]
    if probe then
        probe.wanted = now
    end

    local err
    if not driver and (parsing or not (failed and now - failed.at < RETRY_MS)) then
        driver, err = start_driver(lookup, now)
    end

    if driver then
        driver.wanted = now
        if err and not down then
            shortage.report_timer("no timer to fetch a revocation status, which the request does itself: ", err)
            drive(false, driver)
        elseif not down then
            wait_for(driver, lookup.settings.wait)
        elseif not err and answers.has_fleet() and not failed then
            wait_for(driver, min(FLEET_WAIT, lookup.settings.wait))
        end

        if not driver.started and not driver.done and not down and monotonic() - driver.begun >= START_WAIT * 1000 then
            -- nginx had no connection for the timer, or too many timers run.
            shortage.report_timer("no timer to fetch a revocation status, which the request does itself: ",
                                  "the timer did not run")
            drive(false, driver)
        end
    end

    if not is_current(lookup) or driver and driver.done and (driver.superseded or driver.lost) then
        return nil
    end

    if driver and driver.done then
        metrics.count("revocation_waits_total", driver.state and "answered" or driver.shortage and "shortage"
                                                or "unknown")
        if driver.shortage and not driver.state then
            return nil, driver.shortage
        end

        if driver.state then
            -- The driver may have been of another policy with the same key.
            use_kept(lookup, driver.is_of_fleet)
        end

        return true
    end

    metrics.count("revocation_waits_total", down and "down" or "late")
    state, _, parsing = use_kept(lookup, true)
    if state then
        -- An answer in force, although it should have been fetched again.
        return true
    end

    if parsing then
        return nil, STILL_PARSING
    end

    if lookup.settings.strict then
        set_status(lookup, STATUS_UNKNOWN, 1)
    else
        set_status(lookup, STATUS_PENDING, down and 1 or WAITED_FOR)
    end

    return true
end


-- Forgets the statuses that are known, on all workers within a second, but not that certificates are revoked.
function _M.flush(dict)
    dict = dict or "mtls"
    answers.flush(dict)
    C.rmtls_engine_forget_statuses(engine_of_worker.current().handle)
    generations[dict] = answers.generation(dict)
    failures = lrucache.new(MAX_STATUSES)
    of_fleet = lrucache.new(FLEET_ENTRIES)
end


return _M
