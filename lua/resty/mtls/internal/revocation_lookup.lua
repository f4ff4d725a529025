-- What is needed to get the revocation status of one certificate: the certificate, the plan in the policy in force, how
-- to fetch, and the sources.
--
-- Another policy may come into force meanwhile. The key of a status is a digest of everything that it depends on:
-- certificates, store, CRLs, ssl_verify, proxies, time-outs. If the new policy has the same key, an answer is verified
-- under it. Otherwise no source has failed, and no status is set.

local ffi = require "ffi"
local answers = require "resty.mtls.internal.answers"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local SOURCE_OCSP = CONST.REVOCATION_SOURCE_OCSP
local concat = table.concat
local ngx_time = ngx.time
local tonumber = tonumber
local tostring = tostring


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
function _M.is_current(lookup)
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
function _M.sources_of(lookup)
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


-- Sets the status in the engine for some seconds.
function _M.set_status(lookup, state, seconds)
    local now = ngx_time()
    C.rmtls_engine_set_revocation_status(lookup.engine.handle, lookup.client, lookup.plan, lookup.epoch, state,
                                         now + seconds, now)
end


-- What is needed to get a status: the certificate `presented`, the plan in the policy in force, find_plan() for the
-- next policy. nil where no status is needed.
function _M.new(engine, plan, epoch, dict, find_plan, presented)
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


return _M
