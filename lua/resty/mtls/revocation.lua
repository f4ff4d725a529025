-- Whether a trusted certificate was revoked: asks the sources that the engine names, hands it what
-- they answer, and shares definite answers between workers.

local ffi = require "ffi"
local certificate = require "resty.mtls.certificate"
local connection = require "resty.mtls.connection"
local fetch = require "resty.mtls.fetch"
local lib = require "resty.mtls.lib"
local metrics = require "resty.mtls.metrics"
local STATUS = require "resty.mtls.cdef"


local C = lib.C
local SOURCE_OCSP = STATUS.SOURCE_OCSP
local STATE_UNKNOWN = STATUS.STATE_UNKNOWN
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_time = ngx.time
local tonumber = tonumber

-- After a failure the sources are left alone for so many seconds.
local RETRY = 5
local MAX_OCSP = 65536
local MAX_CRL = 10 * 1024 * 1024
-- A CRL speaks for many certificates, which often come together.
local CRL_TTL = 60
-- Near its end an answer is looked up so often, in seconds.
local RECHECK = 2
-- What a responder answers that does not take POST.
local NO_POST = { [400] = true, [404] = true, [405] = true, [501] = true }
-- Labels
local ANSWERS = { [STATUS.STATE_GOOD] = "good", [STATUS.STATE_REVOKED] = "revoked" }
-- Longest URL with a request in it (RFC 5019 section 5).
local MAX_GET = 255


local _M = {}


local function fetch_options(engine, plan)
    local options = ffi.new("rmtls_fetch_options")
    local http_proxy, https_proxy = lib.read("revocation", function(http, https)
        return C.rmtls_engine_fetch_options(engine.handle, plan, options, http, https)
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


local function source(engine, client, plan, epoch, index)
    local kind = ffi.new("int32_t[1]")
    local url, request = lib.read("revocation", function(a, b)
        return C.rmtls_engine_source(engine.handle, client, plan, epoch, index, ngx_time(), kind, a, b)
    end, true)

    if not url and request then
        -- Not the end of the list but a failure, which must not read as "nobody to ask".
        error(request)
    end

    return url, request, kind[0]
end


local function judge(engine, client, plan, epoch, index, bytes)
    local state = ffi.new("int32_t[1]")
    local till = ffi.new("int64_t[1]")
    local ok, err = lib.try("no answer", function(message)
        return C.rmtls_engine_judge(engine.handle, client, plan, epoch, index, bytes, #bytes, ngx_time(),
                                    state, till, message)
    end)
    if not ok then
        return nil, err
    end

    return state[0], tonumber(till[0])
end


local function get(opts)
    local answer, err = fetch.request(opts)
    if answer and answer.status ~= 200 then
        return nil, "status " .. answer.status, answer.status
    end

    return answer and answer.body, err
end


-- The request in the URL (RFC 6960 appendix A.1), for responders that take no POST.
local function get_ocsp(opts)
    local url = opts.url:gsub("/$", "") .. "/" .. ngx.escape_uri(ngx.encode_base64(opts.body))
    if #url > MAX_GET then
        return nil
    end

    local other = {}
    for name, value in pairs(opts) do
        other[name] = value
    end

    other.url = url
    other.method = nil
    other.body = nil
    other.content_type = nil

    return (get(other))
end


-- What one source says: the state and until when it holds, or nil and why not.
local function ask(engine, client, plan, epoch, index, options, timeout, dict)
    local url, request, kind = source(engine, client, plan, epoch, index)
    local label = kind == SOURCE_OCSP and "ocsp" or "crl"
    local opts = { url = url, origin = "certificate", kind = label }
    for name, value in pairs(options) do
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

    -- The lock of the source keeps workers from asking it for the same at the same time; what it
    -- says is shared as a state, not as bytes.
    local bytes, err = fetch.cached(dict, "source:" .. kind .. ":" .. url .. ngx.md5(request),
                                    { host = url, timeout = timeout }, function()
        local body, why, status = get(opts)
        if status and NO_POST[status] and kind == SOURCE_OCSP then
            body = get_ocsp(opts)
        end

        if not body then
            return nil, why
        end

        return body, kind == SOURCE_OCSP and 0 or CRL_TTL
    end)
    if not bytes then
        return nil, url .. ": " .. err
    end

    local state, till = judge(engine, client, plan, epoch, index, bytes)
    metrics.count("revocation_answers_total", label, ANSWERS[state] or "rejected")
    if not state then
        return nil, url .. ": " .. till
    end

    return state, till
end


-- Asks one source after the other, for options.timeout milliseconds in all. "state:till" and the
-- seconds for which it holds, or nil and why not.
local function ask_all(engine, client, plan, epoch, options, dict)
    local deadline = ngx_now() + options.timeout / 1000
    local reasons = {}
    for index = 0, math.huge do
        local left = math.floor((deadline - ngx_now()) * 1000)
        if left < 1 or not source(engine, client, plan, epoch, index) then
            break
        end

        local state, till = ask(engine, client, plan, epoch, index, options, left, dict)
        if state then
            return state .. ":" .. till, till - ngx_time()
        end

        reasons[#reasons + 1] = till
    end

    return nil, reasons[1] and table.concat(reasons, "; ") or "no source answered in time"
end


-- Settles the status of the client of this request, or of the certificate that make(out) gives; the
-- engine then decides without waiting. Yields. What is about to end is asked for anew in a timer,
-- while it still serves.
function _M.resolve(engine, plan, dict, make)
    -- A handle of its own: the connection may be gone when a source answers.
    local presented = certificate.wrap(make or function(out)
        return C.rmtls_engine_client(engine.handle, connection.ssl(), out)
    end)
    if not presented then
        return
    end

    -- A plan number holds for one policy: after a reload nothing of this counts.
    local epoch = C.rmtls_engine_epoch(engine.handle)
    local client = presented.handle
    local key = lib.read("revocation", function(out)
        return C.rmtls_engine_status_key(engine.handle, client, plan, epoch, ngx_time(), out)
    end)
    if not key then
        return
    end

    local options = fetch_options(engine, plan)
    local value, err = fetch.cached(dict, "status:" .. key,
                                    { timeout = options.timeout, refresh_ahead = true }, function()
        -- Names presented, which owns the handle, for as long as a timer may run this.
        return ask_all(engine, presented.handle, plan, epoch, options, dict)
    end)

    local now = ngx_time()
    local state, till
    if value then
        state, till = value:match("^(%d+):(%d+)$")
        state, till = tonumber(state), tonumber(till)
    end

    if state then
        -- Looked at again before it ends, which is what starts the timer.
        local soon = math.floor(till - math.min((till - now) / 5, 3600))
        till = soon > now + RECHECK and soon or math.min(till, now + RECHECK)
    else
        state, till = STATE_UNKNOWN, now + RETRY
        ngx_log(ngx.NOTICE, "[mtls] revocation status unknown: ", (err:gsub("^fetch%.cached: ", "")))
    end

    C.rmtls_engine_settle(engine.handle, client, plan, epoch, state, till, now)
end


return _M
