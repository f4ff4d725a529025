-- Whether a trusted certificate was revoked: asks the sources that the engine names, hands it what
-- they answer, and shares definite answers between workers.
--
-- Fetching yields, and another policy may come into force meanwhile. Where it asks the same question
-- (the name of the status is a digest of everything that the answer depends on: certificates, store,
-- CRLs, ssl_verify, proxies, time-outs), what was fetched is judged under it. Else the fetch is void:
-- it is no failure of a source, and nothing of it is kept. ARCHITECTURE.md lists all yields.

local ffi = require "ffi"
local certificate = require "resty.mtls.certificate"
local connection = require "resty.mtls.internal.connection"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local metrics = require "resty.mtls.internal.metrics"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local STATUS = require "resty.mtls.internal.cdef"


local C = library.C
local SOURCE_OCSP = STATUS.SOURCE_OCSP
local INVALID = STATUS.INVALID
local NOT_FOUND = STATUS.NOT_FOUND
local STATE_REVOKED = STATUS.STATE_REVOKED
local STATE_UNKNOWN = STATUS.STATE_UNKNOWN
local SHORTAGE = shared_cache.SHORTAGE
local SUPERSEDED = shared_cache.SUPERSEDED
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_time = ngx.time
local tonumber = tonumber
local tostring = tostring

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


-- What tells apart fetches of the same URL: who verifies the server, how it is reached, and for how
-- long. A failure of one is none of another, nor is what it brought taken for the other's.
local function way_of(options)
    local function proxy(at)
        return at and at.host .. ":" .. at.port or ""
    end

    return http.cache_scope() .. table.concat({ options.timeout, tostring(options.ssl_verify),
                                                proxy(options.http_proxy), proxy(options.https_proxy), "" }, " ")
end


local function status_key(engine, client, plan, epoch)
    return library.read("revocation", function(out)
        return C.rmtls_engine_status_key(engine.handle, client, plan, epoch, ngx_time(), out)
    end)
end


-- Whether the question is still what the policy in force asks. To be called after every yield and
-- before the engine is: it sets the plan and the epoch of the question.
local function is_current(question)
    local engine = question.engine
    local epoch = C.rmtls_engine_epoch(engine.handle)
    if epoch == question.epoch then
        return true
    end

    local plan = question.find()
    if not plan or status_key(engine, question.client, plan, epoch) ~= question.key then
        return false
    end

    question.plan, question.epoch = plan, epoch

    return true
end


local function source(question, index)
    local kind = ffi.new("int32_t[1]")
    local url, request = library.read("revocation", function(a, b)
        return C.rmtls_engine_source(question.engine.handle, question.client, question.plan, question.epoch,
                                     index, ngx_time(), kind, a, b)
    end, true)

    if not url and request then
        -- Not the end of the list but a failure, which must not read as "nobody to ask".
        error(request)
    end

    return url, request, kind[0]
end


-- The state and until when it holds; or nil, why the bytes are no answer, and the kind of error if
-- that is not the source's fault.
local function judge(question, index, bytes)
    local state = ffi.new("int32_t[1]")
    local till = ffi.new("int64_t[1]")
    local ok, err, status = library.try("no answer", function(message)
        return C.rmtls_engine_judge(question.engine.handle, question.client, question.plan, question.epoch,
                                    index, bytes, #bytes, ngx_time(), state, till, message)
    end)
    if not ok then
        return nil, err, status ~= INVALID and status ~= NOT_FOUND and SHORTAGE or nil
    end

    return state[0], tonumber(till[0])
end


-- The body; or nil, an error, its kind, and the status if it is another than 200.
local function get(opts)
    local answer, err, kind = http.request(opts)
    if answer and answer.status ~= 200 then
        return nil, "status " .. answer.status, nil, answer.status
    end

    return answer and answer.body, err, kind
end


-- The request in the URL (RFC 6960 appendix A.1), for responders that take no POST; or nil, and an
-- error with its kind if it was sent.
local function get_ocsp(opts, deadline)
    local left = math.floor((deadline - ngx_now()) * 1000)
    if left < 1 then
        return nil
    end

    local url = opts.url:gsub("/$", "") .. "/" .. ngx.escape_uri(ngx.encode_base64(opts.body))
    if #url > MAX_GET then
        return nil
    end

    local other = {}
    for name, value in pairs(opts) do
        other[name] = value
    end

    other.url = url
    other.timeout = left
    other.method = nil
    other.body = nil
    other.content_type = nil

    return get(other)
end


-- What one source says: the state and until when it holds; or nil, why not, and the kind of error if
-- it is no failure of the source.
local function ask(question, index, timeout, dict)
    local url, request, kind = source(question, index)
    local label = kind == SOURCE_OCSP and "ocsp" or "crl"
    local opts = { url = url, origin = "certificate", kind = label }
    for name, value in pairs(question.options) do
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
    local way = question.way
    local deadline = ngx_now() + timeout / 1000
    local bytes, err, fault = shared_cache.get(dict, way .. "source:" .. kind .. ":" .. url .. ngx.md5(request),
                                           { host = url, options = way, timeout = timeout }, function()
        local body, why, what, status = get(opts)
        if status and NO_POST[status] and kind == SOURCE_OCSP then
            local again, cause
            body, again, cause = get_ocsp(opts, deadline)
            if cause then
                why, what = again, cause
            end
        end

        if not body then
            return nil, why, what
        end

        return body, kind == SOURCE_OCSP and 0 or CRL_TTL
    end)
    if not bytes then
        return nil, url .. ": " .. err, fault
    end

    if not is_current(question) then
        return nil, "another policy came into force", SUPERSEDED
    end

    local state, till
    state, till, fault = judge(question, index, bytes)
    if not fault then
        metrics.count("revocation_answers_total", label, ANSWERS[state] or "rejected")
    end

    if not state then
        return nil, url .. ": " .. till, fault
    end

    return state, till
end


-- Asks one source after the other, for options.timeout milliseconds in all. "state:till", the
-- seconds for which it holds, and whether it is worth more than others in the dictionary; or nil, why
-- not, and the kind of error if one source may have an answer that this machine could not get.
local function ask_all(question, dict)
    local deadline = ngx_now() + question.options.timeout / 1000
    local reasons = {}
    local fault
    for index = 0, math.huge do
        if not is_current(question) then
            return nil, "another policy came into force", SUPERSEDED
        end

        local left = math.floor((deadline - ngx_now()) * 1000)
        if left < 1 or not source(question, index) then
            break
        end

        local state, till, kind = ask(question, index, left, dict)
        if state then
            return state .. ":" .. till, till - ngx_time(), state == STATE_REVOKED
        end

        if kind == SUPERSEDED then
            return nil, till, kind
        end

        fault = fault or kind
        reasons[#reasons + 1] = till
    end

    return nil, reasons[1] and table.concat(reasons, "; ") or "no source answered in time", fault
end


-- Settles the status of the client of this request, or of the certificate that make(out) gives; the
-- engine then decides without waiting. Yields. What is about to end is asked for anew in a timer,
-- while it still serves. find() gives the plan in the policy in force, or nil.
--
-- true; or nil when another policy came into force and everything is to be decided anew; or nil and
-- what this machine lacks: then nothing is settled, and the request must not go on.
function _M.resolve(engine, plan, dict, find, make)
    -- A handle of its own: the connection may be gone when a source answers.
    local presented = certificate.wrap(make or function(out)
        return C.rmtls_engine_client(engine.handle, connection.ssl(), out)
    end)
    if not presented then
        return true
    end

    -- Names presented, which owns the handle, for as long as a timer may need it.
    local question = {
        engine = engine,
        presented = presented,
        client = presented.handle,
        plan = plan,
        epoch = C.rmtls_engine_epoch(engine.handle),
        find = find,
        options = fetch_options(engine, plan),
    }
    local key = status_key(engine, question.client, plan, question.epoch)
    if not key then
        return true
    end

    question.key = key
    question.way = way_of(question.options)
    local value, err, kind = shared_cache.get(dict, http.cache_scope() .. "status:" .. key,
                                          { timeout = question.options.timeout, refresh_ahead = true }, function()
        return ask_all(question, dict)
    end)
    if not is_current(question) or kind == SUPERSEDED then
        return nil
    end

    if kind then
        return nil, (err:gsub("^shared_cache%.get: ", ""))
    end

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
        ngx_log(ngx.NOTICE, "[mtls] revocation status unknown: ", (err:gsub("^shared_cache%.get: ", "")))
    end

    C.rmtls_engine_settle(engine.handle, question.client, question.plan, question.epoch, state, till, now)

    return true
end


return _M
