-- The certificate with which this gateway authenticates to an introspection endpoint (tls_client_auth, RFC 8705
-- section 2). It is in the memory of the worker alone, with its key.

local library = require "resty.mtls.internal.library"
local token_options = require "resty.mtls.internal.token_options"
local CONST = require "resty.mtls.internal.cdef"
local ssl = require "ngx.ssl"


local C = library.C
local OK = CONST.OK

-- The first ngx_lua whose cosockets have setclientcert().
local NEEDED = 10022


local _M = {}


-- Why the policy in force cannot be served by this nginx, or nil.
function _M.unsupported(engine)
    if ngx.config.ngx_lua_version >= NEEDED or C.rmtls_engine_needs_client_certificates(engine.handle) ~= OK then
        return nil
    end

    return "tls_client_auth of openid-connect needs lua-nginx-module 0.10.22 or newer, whose sockets can send a "
           .. "client certificate"
end


-- The certificate of a plan, as http.request() takes it, with the digest of its certificate; or nil and an error,
-- which has nothing of the key.
function _M.read(engine, plan)
    local pem = token_options.text_of(engine, plan, CONST.TOKEN_TEXT_CLIENT_CERTIFICATE)
    local chain, err = ssl.parse_pem_cert(pem)
    if not chain then
        return nil, "client certificate: " .. err
    end

    local key
    key, err = ssl.parse_pem_priv_key(token_options.text_of(engine, plan, CONST.TOKEN_TEXT_CLIENT_KEY))
    if not key then
        return nil, "key of the client certificate: " .. err
    end

    return { chain = chain, key = key, digest = ngx.md5(pem) }
end


return _M
