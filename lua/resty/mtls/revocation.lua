-- Whether a trusted certificate was revoked: asks the sources that the engine names, hands it what
-- they answer, and shares definite answers between workers.

local ffi = require "ffi"
local connection = require "resty.mtls.connection"
local fetch = require "resty.mtls.fetch"
local lib = require "resty.mtls.lib"
local STATUS = require "resty.mtls.cdef"


local C = lib.C
local SOURCE_OCSP = STATUS.SOURCE_OCSP
local STATE_UNKNOWN = STATUS.STATE_UNKNOWN
local ngx_log = ngx.log
local ngx_time = ngx.time
local tonumber = tonumber

-- After a failure the sources are left alone for so many seconds.
local RETRY = 5
local MAX_OCSP = 65536
local MAX_CRL = 10 * 1024 * 1024
-- A CRL speaks for many certificates, which often come together.
local CRL_TTL = 60


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


local function source(engine, plan, index)
    local kind = ffi.new("int32_t[1]")
    local url, request = lib.read("revocation", function(a, b)
        return C.rmtls_engine_source(engine.handle, connection.ssl(), plan, index, ngx_time(), kind, a, b)
    end, true)

    return url, request, kind[0]
end


local function judge(engine, plan, index, bytes)
    local state = ffi.new("int32_t[1]")
    local till = ffi.new("int64_t[1]")
    local ok, err = lib.try("no answer", function(message)
        -- Never the pointer of before the fetch: the connection may be another one's by now.
        return C.rmtls_engine_judge(engine.handle, connection.ssl(), plan, index, bytes, #bytes,
                                    ngx_time(), state, till, message)
    end)
    if not ok then
        return nil, err
    end

    return state[0], tonumber(till[0])
end


-- What one source says: the state and until when it holds, or nil and why not.
local function ask(engine, plan, index, options, dict)
    local url, request, kind = source(engine, plan, index)
    local opts = { url = url, origin = "certificate" }
    for name, value in pairs(options) do
        opts[name] = value
    end

    if kind == SOURCE_OCSP then
        opts.method = "POST"
        opts.body = request
        opts.content_type = "application/ocsp-request"
        opts.accept = "application/ocsp-response"
        opts.max_bytes = MAX_OCSP
    else
        opts.max_bytes = MAX_CRL
    end

    local function get()
        local answer, err = fetch.request(opts)
        if not answer then
            return nil, err
        end

        if answer.status ~= 200 then
            return nil, "status " .. answer.status
        end

        return answer.body, kind == SOURCE_OCSP and 0 or CRL_TTL
    end

    local state, till
    -- The lock of the source keeps workers from asking it for the same at the same time; what it
    -- says is shared as a state, not as bytes.
    local bytes, err = fetch.cached(dict, "source:" .. kind .. ":" .. url .. ngx.md5(request),
                                    { host = url, timeout = options.timeout }, get)
    if bytes then
        state, till = judge(engine, plan, index, bytes)
        if state then
            return state, till
        end

        err = till
    end

    return nil, url .. ": " .. err
end


local function status_key(engine, plan)
    return lib.read("revocation", function(out)
        return C.rmtls_engine_status_key(engine.handle, connection.ssl(), plan, ngx_time(), out)
    end)
end


-- Settles the status of the client of this request; the engine then decides without waiting.
-- Yields.
function _M.resolve(engine, plan, dict)
    local key = status_key(engine, plan)
    if not key then
        return
    end

    local options = fetch_options(engine, plan)
    local reasons = {}

    local value = fetch.cached(dict, "status:" .. key, { timeout = options.timeout }, function()
        for index = 0, math.huge do
            local url = source(engine, plan, index)
            if not url then
                break
            end

            local state, till = ask(engine, plan, index, options, dict)
            if state then
                return state .. ":" .. till, till - ngx_time()
            end

            reasons[#reasons + 1] = till
        end

        return nil, "no source answered"
    end)

    local now = ngx_time()
    local state, till
    if value then
        state, till = value:match("^(%d+):(%d+)$")
    end

    if not state then
        state, till = STATE_UNKNOWN, now + RETRY
        ngx_log(ngx.NOTICE, "[mtls] revocation status unknown: ",
                reasons[1] and table.concat(reasons, "; ") or "no source answered lately")
    end

    C.rmtls_engine_settle(engine.handle, connection.ssl(), plan, tonumber(state), tonumber(till), now)
end


return _M
