-- Introspection of access tokens (RFC 7662), and how this gateway authenticates to the endpoint.

local ffi = require "ffi"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local token_client_certificate = require "resty.mtls.internal.token_client_certificate"
local token_options = require "resty.mtls.internal.token_options"
local url = require "resty.mtls.internal.net.url"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local escape = ngx.escape_uri

local JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
-- Bytes of a response.
local MAX_RESPONSE = 262144
-- Seconds for which concurrent requests with the same token share a response.
local TTL = 1


local _M = {}


-- The parameters and header lines by which the endpoint authenticates this gateway; or nil and an error.
local function credentials(engine, plan, options)
    local id, secret = escape(options.client_id), escape(options.client_secret or "")
    if options.client_auth == CONST.CLIENT_AUTH_BASIC then
        return "", { Authorization = "Basic " .. ngx.encode_base64(id .. ":" .. secret) }
    end

    local parameters = "&client_id=" .. id
    if options.client_auth == CONST.CLIENT_AUTH_POST then
        parameters = parameters .. "&client_secret=" .. secret

    elseif options.client_auth == CONST.CLIENT_AUTH_PRIVATE_KEY then
        local assertion, err = library.read("client assertion", function(out)
            return C.rmtls_engine_client_assertion(engine.handle, plan, ngx.time(), out)
        end)
        if not assertion then
            return nil, err or "no key for a client assertion"
        end

        parameters = parameters .. "&client_assertion_type=" .. escape(JWT_BEARER) .. "&client_assertion=" .. assertion
    end

    return parameters, {}
end


-- The client certificate for the endpoint, nil where none is needed; or nil and an error.
local function certificate_for(endpoint, engine, plan, options)
    if options.client_auth ~= CONST.CLIENT_AUTH_TLS then
        return nil
    end

    if endpoint:sub(1, 8) ~= "https://" then
        return nil, url.without_query(endpoint) .. ": expected https for tls_client_auth"
    end

    local err
    if not options.client_certificate then
        options.client_certificate, err = token_client_certificate.read(engine, plan)
    end

    return options.client_certificate, err
end


-- The introspection response for a token, or nil, an error and its kind. id: the 32 bytes of a digest of the token and
-- of all options on which the response depends. Yields.
function _M.introspect(engine, plan, options, dict, token, id)
    local endpoint = token_options.text_of(engine, plan, CONST.TOKEN_TEXT_INTROSPECTION_ENDPOINT)
    if not endpoint then
        return nil, options.issuer .. " names no introspection endpoint"
    end

    local parameters, lines = credentials(engine, plan, options)
    if not parameters then
        return nil, lines
    end

    local certificate, why = certificate_for(endpoint, engine, plan, options)
    if why then
        return nil, why
    end

    local failure_scope = options.failure_scope
    if certificate then
        -- A server that refuses this certificate may accept another one.
        failure_scope = failure_scope .. tostring(options.introspection_ssl_verify) .. " " .. certificate.digest .. " "
    end

    local key = options.scope .. "introspection:" .. ngx.encode_base64(ffi.string(id, 32))
    local opts = { host = endpoint, options = failure_scope, timeout = options.timeout }
    local value, err, kind = shared_cache.get(dict, key, opts, function()
        local response, problem, what, unusable = http.request {
            url = endpoint,
            origin = token_options.origin_of(options, endpoint),
            method = "POST",
            body = "token=" .. escape(token) .. "&token_type_hint=access_token" .. parameters,
            content_type = "application/x-www-form-urlencoded",
            headers = lines,
            accept = "application/json",
            gzip = true,
            max_bytes = MAX_RESPONSE,
            ssl_verify = options.introspection_ssl_verify,
            client_certificate = certificate,
            timeout = options.timeout,
            kind = "token",
        }
        -- Not a failure of the host: other tokens must still be introspected.
        if unusable and not what then
            return problem, 0
        end

        if not response then
            return nil, problem, what
        end

        -- Some servers send 201 to every POST.
        if response.status ~= 200 and response.status ~= 201 then
            return "status " .. response.status, 0
        end

        return "200:" .. response.body, TTL
    end)
    if not value then
        return nil, err, kind
    end

    if value:sub(1, 4) ~= "200:" then
        return nil, endpoint .. ": " .. value
    end

    return value:sub(5)
end


return _M
