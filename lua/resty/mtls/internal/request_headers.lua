-- What a request brings that its route reads before it is removed: the headers with a certificate
-- that a proxy sends, and its access token.

local ffi = require "ffi"
local base = require "resty.core.base"
-- Declares what this file calls of lua-nginx-module.
require "resty.core.request"
local lrucache = require "resty.lrucache"
local certificate = require "resty.mtls.certificate"
local library = require "resty.mtls.internal.library"
local raw_headers = require "resty.mtls.internal.raw_headers"


local C = library.C
local ffi_cast = ffi.cast
local ffi_str = ffi.string
local get_request = base.get_request
local ngx = ngx
local ngx_var = ngx.var
local pairs = pairs
local setmetatable = setmetatable
local start_time = ngx.req.start_time
local tonumber = tonumber


-- Requests whose headers are kept though somebody has thrown ngx.ctx away.
local MAX_KEPT = 1000
-- Seconds
local KEPT_TTL = 60


local _M = {}

local header_type = ffi.typeof("rmtls_header[?]")
local kept = lrucache.new(MAX_KEPT)
-- The same of all live requests: nginx holds what ngx.ctx held before an internal redirect until the
-- request ends.
local live = setmetatable({}, { __mode = "v" })

local trusted_ips
local last_peer
local last_answer


-- init_by_lua*. trusted: a set (resty.mtls.internal.net.cidr) of the peers whose certificate headers count.
function _M.init(opts)
    trusted_ips = opts.trusted
    last_peer = nil
end


-- Whether there is anybody whose certificate headers count.
function _M.trusts()
    return trusted_ips ~= nil and not trusted_ips:is_empty()
end


-- 1 when trusted_ips names the peer of the TCP connection. Never the address that a realip module
-- read from a header.
local function is_trusted()
    if not trusted_ips then
        return 0
    end

    -- Without the realip module there is only one.
    local peer = ngx_var.realip_remote_addr or ngx_var.remote_addr
    if peer ~= last_peer then
        last_answer = trusted_ips:match(peer) and 1 or 0
        last_peer = peer
    end

    return last_answer
end


-- All values of the request's Authorization headers. nginx itself hands out one of them, and the
-- upstream may read another.
local function authorization()
    local elements, count = raw_headers(get_request())
    local values = {}
    for i = 0, count - 1 do
        local key = elements[i].key
        -- Names of this length are few.
        if key.len == 13 and ffi_str(key.data, 13):lower() == "authorization" then
            local value = elements[i].value
            values[#values + 1] = ffi_str(value.data, value.len)
        end
    end

    return values
end


local function array_of(names, values)
    local array = header_type(#values)
    for i = 1, #values do
        array[i - 1].name = names[i]
        array[i - 1].name_len = #names[i]
        array[i - 1].value = values[i]
        array[i - 1].value_len = #values[i]
    end

    -- The array holds bare pointers, which the garbage collector does not see.
    return { array = array, count = #values, names = names, values = values }
end
_M.array_of = array_of


-- Tells a request from every other one of this worker, also where nginx numbers the streams of a
-- connection alike: live requests have addresses of their own, and an address that is used again is
-- that of a later request.
local function number()
    return tonumber(ffi_cast("uintptr_t", get_request())) .. ":" .. ngx_var.connection .. ":"
           .. ngx_var.connection_requests .. ":" .. start_time()
end


-- What the headers that some route reads held when this request came: { values = { name = { ... } },
-- closed }. Once closed, nothing comes any more: what stands there then is the gateway's own. An
-- internal redirect loses ngx.ctx, and a rewrite looks like one. nil if nothing is known and make is
-- not set.
local function memory(make)
    local ctx = ngx.ctx
    local came = ctx.resty_mtls_came
    if came then
        return came
    end

    local key = number()
    came = live[key] or kept:get(key)
    if not came then
        if not make then
            return nil
        end

        came = { values = {} }
        live[key] = came
        kept:set(key, came, KEPT_TTL)
    end

    ctx.resty_mtls_came = came

    return came
end


-- Keeps the value of a header that is about to be removed.
function _M.keep(name, value)
    local came = memory(true)
    if came.closed then
        return
    end

    local values = came.values[name]
    if not values then
        values = {}
        came.values[name] = values
    end

    values[#values + 1] = value
end


-- Nothing of what stands in the headers from now on came with the request. With make also if
-- nothing was known before.
function _M.close(make)
    local came = memory(make)
    if came then
        came.closed = true
    end
end


-- Names and values of what came, in the order of each name.
function _M.pairs_that_came()
    local names, values = {}, {}
    local came = memory()
    for name, list in pairs(came and came.values or {}) do
        for i = 1, #list do
            names[#names + 1] = name
            values[#values + 1] = list[i]
        end
    end

    return names, values
end


-- { came, authorization, trusted } of this request, wherever an internal redirect has led it.
function _M.of_request()
    local came = memory(true)
    came.closed = true
    if came.request then
        return came.request
    end

    local tokens = authorization()
    local labels = {}
    for i = 1, #tokens do
        labels[i] = "authorization"
    end

    came.request = {
        came = array_of(_M.pairs_that_came()),
        authorization = array_of(labels, tokens),
        trusted = is_trusted(),
    }

    return came.request
end


-- The certificate that this request presents on a plan, whatever it is worth: from the header that
-- the plan reads, else from the connection; or nil and the status.
function _M.certificate(engine, plan, ssl, or_tls)
    local headers = _M.of_request()

    return certificate.wrap(function(out)
        return C.rmtls_engine_presented(engine.handle, ssl, plan, headers.came.array, headers.came.count,
                                        headers.trusted, or_tls and 1 or 0, out)
    end)
end


return _M
