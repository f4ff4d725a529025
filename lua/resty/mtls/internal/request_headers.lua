-- The headers of a request that its route reads before reserved headers are removed from it: those in
-- which a trusted proxy sends a certificate, and the access token.

local ffi = require "ffi"
local base = require "resty.core.base"
-- Declares the functions of lua-nginx-module that this file calls.
require "resty.core.request"
local certificate = require "resty.mtls.certificate"
local library = require "resty.mtls.internal.library"
local raw_headers = require "resty.mtls.internal.raw_headers"
local request_memory = require "resty.mtls.internal.request_memory"
local request_state = require "resty.mtls.internal.request_state"


local C = library.C
local ffi_cast = ffi.cast
local ffi_str = ffi.string
local get_request = base.get_request
local ngx = ngx
local ngx_var = ngx.var
local pairs = pairs
local pool_address = request_memory.pool_address
local tonumber = tonumber


local _M = {}

local header_type = ffi.typeof("rmtls_request_header[?]")

-- What main requests have saved, by the address of the pool that their subrequests share.
local of_main_requests = setmetatable({}, { __mode = "v" })

local trusted_ips
local last_peer
local last_result


-- init_by_lua*. trusted: a set (resty.mtls.internal.net.cidr) of the peers whose certificate headers are read.
function _M.init(opts)
    trusted_ips = opts.trusted
    last_peer = nil
end


-- Whether certificate headers of any peer are read.
function _M.has_trusted_peers()
    return trusted_ips ~= nil and not trusted_ips:is_empty()
end


-- 1 when trusted_ips contains the peer of the TCP connection, which is not the address that the realip
-- module has read from a header.
local function is_trusted()
    if not trusted_ips then
        return 0
    end

    -- $realip_remote_addr does not exist without the realip module.
    local peer = ngx_var.realip_remote_addr or ngx_var.remote_addr
    if peer ~= last_peer then
        last_result = trusted_ips:match(peer) and 1 or 0
        last_peer = peer
    end

    return last_result
end


-- The values of all Authorization and DPoP headers of the request. nginx's variable has one of them, and
-- the upstream may read another.
local function credentials()
    local elements, count = raw_headers(get_request())
    local tokens, proofs = {}, {}
    for i = 0, count - 1 do
        local key = elements[i].key
        -- The length is compared first, since few names have it.
        local values = key.len == 13 and tokens or key.len == 4 and proofs
        if values and ffi_str(key.data, key.len):lower() == (values == tokens and "authorization" or "dpop") then
            local value = elements[i].value
            values[#values + 1] = ffi_str(value.data, value.len)
        end
    end

    return tokens, proofs
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


-- What the main request of this subrequest has saved, or nil. Its headers, which a subrequest begins with, are without
-- what was saved, and may have what was set since.
local function saved_by_main(request)
    local pool = pool_address(request)
    local saved = pool and of_main_requests[pool]

    return saved and request_state.has_extra(saved.address, saved) and saved or nil
end


-- Lets subrequests find what their main request has saved.
local function share(received)
    if received.address or ngx.is_subrequest then
        return
    end

    local request = get_request()
    local pool = pool_address(request)
    if pool then
        received.address = tonumber(ffi_cast("uintptr_t", request))
        of_main_requests[pool] = received
    end
end


-- The values that readable headers had when the request was received: { values = { name = { ... } }, sealed }.
-- Once sealed, nothing is added: what is in the headers then was set by the gateway. nil when nothing was saved and
-- `create` is not set.
local function saved_headers(create)
    local received = request_state.extra(create)
    if received and not received.values then
        local main = ngx.is_subrequest and saved_by_main(get_request())
        received.values = main and main.values or {}
        -- What was saved before is lost, so what is in the headers may be the gateway's.
        received.sealed = received.is_lost or main and main.sealed or false
    end

    return received
end


-- Saves the value of a header that is about to be removed.
function _M.save(name, value)
    local received = saved_headers(true)
    if received.sealed then
        return
    end

    local values = received.values[name]
    if not values then
        values = {}
        received.values[name] = values
    end

    values[#values + 1] = value
end


-- Ends the saving: headers that are set from now on were not in the request. With `create` also when
-- nothing was saved so far.
function _M.seal(create)
    local received = saved_headers(create)
    if received then
        received.sealed = true
        share(received)
    end
end


-- Remembers the name of a header that was set on the request and is no line that the library keeps for it.
function _M.note(name)
    saved_headers(true).noted = name
end


-- The name of note(), or nil.
function _M.noted()
    local received = saved_headers()

    return received and received.noted
end


-- Marks the request as refused, for what runs after the internal redirect to its error page.
function _M.mark_refused()
    saved_headers(true).refused = true
end


-- Whether the request was refused before an internal redirect.
function _M.was_refused()
    local received = saved_headers()

    return received ~= nil and received.refused == true
end


-- Names and values of the saved headers, in the order of each name.
function _M.received_pairs()
    local names, values = {}, {}
    local received = saved_headers()
    for name, list in pairs(received and received.values or {}) do
        for i = 1, #list do
            names[#names + 1] = name
            values[#values + 1] = list[i]
        end
    end

    return names, values
end


local function labelled(label, values)
    local labels = {}
    for i = 1, #values do
        labels[i] = label
    end

    return array_of(labels, values)
end


-- The values of all headers of the request with this name, where '-' and '_' are equal: the upstream may read
-- either. Also their names, as they were sent.
local function token_headers(name)
    local elements, count = raw_headers(get_request())
    local folded = name:lower():gsub("_", "-")
    local names, values = {}, {}
    for i = 0, count - 1 do
        local key = elements[i].key
        if key.len == #folded then
            local sent = ffi_str(key.data, key.len)
            if sent:lower():gsub("_", "-") == folded then
                local value = elements[i].value
                names[#names + 1] = sent
                values[#values + 1] = ffi_str(value.data, value.len)
            end
        end
    end

    local found = labelled("authorization", values)
    found.sent_names = names

    return found
end


-- { received, authorization, proofs, trusted } of this request, also after an internal redirect. authorization
-- has the values of its Authorization headers, or of those with the name `token_header`.
function _M.of_request(token_header)
    local received = saved_headers(true)
    received.sealed = true
    local request = received.request
    if not request then
        local tokens, proofs = credentials()
        request = {
            received = array_of(_M.received_pairs()),
            tokens = { [""] = labelled("authorization", tokens) },
            proofs = labelled("dpop", proofs),
            trusted = is_trusted(),
        }
        received.request = request
    end

    -- An internal redirect may lead to a route that reads another header.
    local name = token_header or ""
    if not request.tokens[name] then
        request.tokens[name] = token_headers(name)
    end

    request.authorization = request.tokens[name]

    return request
end


-- The certificate that this request presents on a plan, verified or not: from the header that the plan
-- reads, with or_tls otherwise from the connection; or nil and the status.
function _M.certificate(engine, plan, ssl, or_tls)
    local headers = _M.of_request()

    return certificate.wrap(function(out)
        return C.rmtls_engine_unverified_certificate(engine.handle, ssl, plan, headers.received.array,
                                                     headers.received.count, headers.trusted, or_tls and 1 or 0, out)
    end)
end


return _M
