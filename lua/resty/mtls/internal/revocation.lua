-- Revocation status of client certificates: fetches OCSP responses and CRLs from the sources that the
-- engine lists, has the engine verify them, and shares the statuses between workers.
--
-- Fetching yields, and another policy may come into force meanwhile. The key of a status is a digest of
-- everything that it depends on: certificates, store, CRLs, ssl_verify, proxies, time-outs. If the new
-- policy has the same key, the response is verified under it. Otherwise the fetch is superseded: no source
-- has failed, and nothing is stored. ARCHITECTURE.md lists all yields.

local ffi = require "ffi"
local certificate = require "resty.mtls.certificate"
local connection = require "resty.mtls.internal.connection"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local metrics = require "resty.mtls.internal.metrics"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local SOURCE_OCSP = CONST.REVOCATION_SOURCE_OCSP
local INVALID = CONST.INVALID
local NOT_FOUND = CONST.NOT_FOUND
local STATUS_REVOKED = CONST.REVOCATION_STATUS_REVOKED
local STATUS_UNKNOWN = CONST.REVOCATION_STATUS_UNKNOWN
local STATUS_PARSING = CONST.REVOCATION_STATUS_PARSING
local SHORTAGE = shared_cache.SHORTAGE
local SUPERSEDED = shared_cache.SUPERSEDED
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_time = ngx.time
local tonumber = tonumber
local tostring = tostring

-- Seconds after a failure in which no source is tried again.
local RETRY_AFTER = 5
local MAX_OCSP = 65536
local MAX_CRL = 10 * 1024 * 1024
-- Seconds for which a CRL is shared: it contains many certificates, which are often checked together.
local CRL_TTL = 60
-- Seconds after which a status that is about to expire is read again.
local RECHECK = 2
-- Seconds between two questions whether a large CRL has been parsed.
local PARSING_POLL = 0.01
-- Statuses of responders that do not support POST.
local NO_POST = { [400] = true, [404] = true, [405] = true, [501] = true }
-- Values of the label `answer`.
local ANSWERS = { [CONST.REVOCATION_STATUS_GOOD] = "good", [CONST.REVOCATION_STATUS_REVOKED] = "revoked" }
-- Longest URL of a GET request to a responder (RFC 5019 section 5).
local MAX_GET = 255


local _M = {}


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
    }
end


-- Distinguishes fetches of the same URL under different options: whether the server is verified, how it is
-- reached, and for how long. Neither failures nor responses are shared between them.
local function failure_scope_of(options)
    local function join(proxy)
        return proxy and proxy.host .. ":" .. proxy.port or ""
    end

    return http.cache_scope() .. table.concat({ options.timeout, tostring(options.ssl_verify),
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


-- URL, OCSP request and kind of a source; nil after the last.
local function source(lookup, index)
    local kind = ffi.new("int32_t[1]")
    local url, request = library.read("revocation", function(a, b)
        return C.rmtls_engine_revocation_source(lookup.engine.handle, lookup.client, lookup.plan, lookup.epoch,
                                                index, ngx_time(), kind, a, b)
    end, true)

    if not url and request then
        -- A failure must not be taken for the end of the list.
        error(request)
    end

    return url, request, kind[0]
end


-- The status in a response and the time until which it is valid; or nil, an error, and its kind if the
-- source is not at fault.
local function verify_response(lookup, index, bytes)
    local revocation_status = ffi.new("int32_t[1]")
    local valid_until = ffi.new("int64_t[1]")
    local ok, err, status = library.try("unusable response", function(message)
        return C.rmtls_engine_revocation_response(lookup.engine.handle, lookup.client, lookup.plan, lookup.epoch,
                                                  index, bytes, #bytes, ngx_time(), revocation_status, valid_until,
                                                  message)
    end)
    if not ok then
        return nil, err, status ~= INVALID and status ~= NOT_FOUND and SHORTAGE or nil
    end

    return revocation_status[0], tonumber(valid_until[0])
end


-- The body; or nil, an error, its kind, and the HTTP status if it is not 200.
local function get_body(opts)
    local response, err, kind = http.request(opts)
    if response and response.status ~= 200 then
        return nil, "status " .. response.status, nil, response.status
    end

    return response and response.body, err, kind
end


-- Sends the OCSP request in the URL (RFC 6960 appendix A.1), for responders that do not support POST. nil
-- without an error when it was not sent, because no time was left or the URL would be too long.
local function get_ocsp(opts, deadline)
    local left = math.floor((deadline - ngx_now()) * 1000)
    if left < 1 then
        return nil
    end

    local url = opts.url:gsub("/$", "") .. "/" .. ngx.escape_uri(ngx.encode_base64(opts.body))
    if #url > MAX_GET then
        return nil
    end

    local get_opts = {}
    for name, value in pairs(opts) do
        get_opts[name] = value
    end

    get_opts.url = url
    get_opts.timeout = left
    get_opts.method = nil
    get_opts.body = nil
    get_opts.content_type = nil

    return get_body(get_opts)
end


-- The status from one source and the time until which it is valid; or nil, an error, and its kind if it is
-- no failure of the source.
local function query_source(lookup, index, timeout, dict)
    local url, request, kind = source(lookup, index)
    local label = kind == SOURCE_OCSP and "ocsp" or "crl"
    local opts = { url = url, origin = http.CERTIFICATE, kind = label }
    for name, value in pairs(lookup.options) do
        opts[name] = value
    end

    opts.timeout = timeout
    if kind == SOURCE_OCSP then
        opts.method = "POST"
        opts.body = request
        opts.content_type = "application/ocsp-request"
        opts.accept = "application/ocsp-response"
        opts.max_bytes = MAX_OCSP
    else
        opts.max_bytes = MAX_CRL
    end

    -- The lock keeps workers from fetching the same from a source at the same time. An OCSP response is not
    -- stored: its status is.
    local failure_scope = lookup.failure_scope
    local deadline = ngx_now() + timeout / 1000
    local key = failure_scope .. "source:" .. kind .. ":" .. url .. ngx.md5(request)
    local cache_opts = { host = url, options = failure_scope, timeout = timeout }
    local bytes, err, err_kind = shared_cache.get(dict, key, cache_opts, function()
        local body, body_err, body_kind, status = get_body(opts)
        if status and NO_POST[status] and kind == SOURCE_OCSP then
            local get_err, get_kind
            body, get_err, get_kind = get_ocsp(opts, deadline)
            if get_kind then
                body_err, body_kind = get_err, get_kind
            end
        end

        if not body then
            return nil, body_err, body_kind
        end

        return body, kind == SOURCE_OCSP and 0 or CRL_TTL
    end)
    if not bytes then
        return nil, url .. ": " .. err, err_kind
    end

    local revocation_status, valid_until
    repeat
        if revocation_status then
            ngx.sleep(PARSING_POLL)
        end

        if not is_current(lookup) then
            return nil, "another policy came into force", SUPERSEDED
        end

        revocation_status, valid_until, err_kind = verify_response(lookup, index, bytes)
        if revocation_status == STATUS_PARSING and ngx_now() >= deadline then
            return nil, url .. ": the CRL is still being parsed", SHORTAGE
        end
    until revocation_status ~= STATUS_PARSING

    if not err_kind then
        metrics.count("revocation_answers_total", label, ANSWERS[revocation_status] or "rejected")
    end

    if not revocation_status then
        return nil, url .. ": " .. valid_until, err_kind
    end

    return revocation_status, valid_until
end


-- Queries one source after the other, for options.timeout milliseconds altogether. "status:valid_until",
-- the seconds for which it is valid, and true if it must be kept in the dictionary at the cost of other
-- values; or nil, an error, and its kind if this machine could not reach a source.
local function query_sources(lookup, dict)
    local deadline = ngx_now() + lookup.options.timeout / 1000
    local reasons = {}
    local err_kind
    for index = 0, math.huge do
        if not is_current(lookup) then
            return nil, "another policy came into force", SUPERSEDED
        end

        local left = math.floor((deadline - ngx_now()) * 1000)
        if left < 1 or not source(lookup, index) then
            break
        end

        local revocation_status, valid_until, kind = query_source(lookup, index, left, dict)
        if revocation_status then
            return revocation_status .. ":" .. valid_until, valid_until - ngx_time(),
                   revocation_status == STATUS_REVOKED
        end

        if kind == SUPERSEDED then
            return nil, valid_until, kind
        end

        err_kind = err_kind or kind
        reasons[#reasons + 1] = valid_until
    end

    return nil, reasons[1] and table.concat(reasons, "; ") or "no source answered in time", err_kind
end


-- Gets the revocation status of the client's certificate, or of the one that read_certificate(out) returns,
-- and gives it to the engine, which then decides without waiting. Yields. A status that is about to expire
-- is fetched again in a timer, while it is still used. find_plan() returns the plan in the policy in force,
-- or nil.
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

    -- It refers to `presented`, which owns the handle, also while a timer uses it.
    local lookup = {
        engine = engine,
        presented = presented,
        client = presented.handle,
        plan = plan,
        epoch = C.rmtls_engine_epoch(engine.handle),
        find_plan = find_plan,
        options = fetch_options(engine, plan),
    }
    local key = status_key(engine, lookup.client, plan, lookup.epoch)
    if not key then
        return true
    end

    lookup.key = key
    lookup.failure_scope = failure_scope_of(lookup.options)
    local cache_opts = { timeout = lookup.options.timeout, refresh_ahead = true }
    local value, err, kind = shared_cache.get(dict, http.cache_scope() .. "status:" .. key, cache_opts, function()
        return query_sources(lookup, dict)
    end)
    if not is_current(lookup) or kind == SUPERSEDED then
        return nil
    end

    if kind then
        return nil, (err:gsub("^shared_cache%.get: ", ""))
    end

    local now = ngx_time()
    local revocation_status, valid_until
    if value then
        revocation_status, valid_until = value:match("^(%d+):(%d+)$")
        revocation_status, valid_until = tonumber(revocation_status), tonumber(valid_until)
    end

    if revocation_status then
        -- The engine reads the status again before it expires, which starts the timer.
        local soon = math.floor(valid_until - math.min((valid_until - now) / 5, 3600))
        valid_until = soon > now + RECHECK and soon or math.min(valid_until, now + RECHECK)
    else
        revocation_status, valid_until = STATUS_UNKNOWN, now + RETRY_AFTER
        ngx_log(ngx.NOTICE, "[mtls] revocation status unknown: ", (err:gsub("^shared_cache%.get: ", "")))
    end

    C.rmtls_engine_set_revocation_status(engine.handle, lookup.client, lookup.plan, lookup.epoch, revocation_status,
                                         valid_until, now)

    return true
end


return _M
