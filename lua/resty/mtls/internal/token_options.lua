-- The options of openid-connect under which the tokens of a plan are validated, as the library has them.

local ffi = require "ffi"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local url = require "resty.mtls.internal.net.url"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C


local _M = {}

-- Options by plan, of the policy with these plans.
local plans
local options_by_plan
-- A part of the keys of what is fetched, which a flush changes.
local generation = ""


-- A text of the options; nil where there is none.
local function text_of(engine, plan, field)
    return (library.read("token", function(out)
        return C.rmtls_engine_token_text(engine.handle, plan, field, out)
    end))
end
_M.text_of = text_of


-- The options under which the tokens of a plan are validated.
function _M.of(engine, plan)
    if plans ~= engine.plans then
        plans = engine.plans
        options_by_plan = {}
    end

    local options = options_by_plan[plan]
    if options then
        return options
    end

    local read = ffi.new("rmtls_token_options")
    if C.rmtls_engine_token_options(engine.handle, plan, read) ~= CONST.OK then
        error("the plan requires no token")
    end

    local issuer = text_of(engine, plan, CONST.TOKEN_TEXT_ISSUER)
    local discovery_url = text_of(engine, plan, CONST.TOKEN_TEXT_DISCOVERY_URL)
    local documents_key = text_of(engine, plan, CONST.TOKEN_TEXT_DOCUMENTS_KEY)
    local scope = http.cache_scope() .. generation
    -- Failures at the same URL are counted apart under other options.
    local failure_scope = http.cache_scope() .. read.ssl_verify .. " " .. tonumber(read.timeout) .. " "
    options = {
        issuer = issuer,
        -- nil where the document is not needed.
        discovery_url = discovery_url,
        jwks_endpoint = text_of(engine, plan, CONST.TOKEN_TEXT_JWKS_ENDPOINT),
        extra_jwks_uris = text_of(engine, plan, CONST.TOKEN_TEXT_EXTRA_JWKS_URIS),
        document_issuers = text_of(engine, plan, CONST.TOKEN_TEXT_DOCUMENT_ISSUERS),
        -- Begins the keys of what is fetched under these options.
        scope = scope,
        key = scope .. "documents:" .. read.needs_keys .. (discovery_url and 1 or 0) .. ":" .. documents_key,
        failure_scope = failure_scope,
        -- A failure of one of several URLs is not one of routes that do not need it.
        documents_scope = failure_scope .. documents_key .. " ",
        needs_keys = read.needs_keys == 1,
        client_auth = read.client_auth,
        client_id = text_of(engine, plan, CONST.TOKEN_TEXT_CLIENT_ID),
        client_secret = text_of(engine, plan, CONST.TOKEN_TEXT_CLIENT_SECRET),
        configured_endpoint = text_of(engine, plan, CONST.TOKEN_TEXT_CONFIGURED_ENDPOINT),
        token_header = text_of(engine, plan, CONST.TOKEN_TEXT_TOKEN_HEADER),
        unauthorized = text_of(engine, plan, CONST.TOKEN_TEXT_UNAUTHORIZED),
        forbidden = text_of(engine, plan, CONST.TOKEN_TEXT_FORBIDDEN),
        hide_credentials = read.hide_credentials == 1,
        expose_error_code = read.expose_error_code == 1,
        ssl_verify = read.ssl_verify == 1,
        introspection_ssl_verify = read.introspection_ssl_verify == 1,
        -- Of tls_client_auth, read when it is first needed.
        client_certificate = false,
        timeout = tonumber(read.timeout),
        rediscovery_lifetime = tonumber(read.rediscovery_lifetime),
        certificate_plan = tonumber(read.certificate_plan),
        dpop = read.dpop,
        anonymous = read.anonymous == 1,
    }
    options_by_plan[plan] = options

    return options
end


-- A URL in the issuer's document may lead to any address if its origin is one that the policy names.
function _M.origin_of(options, target)
    local is_configured = url.same_origin(options.issuer, target)
                          or options.configured_endpoint and url.same_origin(options.configured_endpoint, target)

    return is_configured and http.OPERATOR or http.CERTIFICATE
end


-- Has later options use other keys, so that what was fetched before is not found.
function _M.set_generation(text)
    generation = text
    plans = nil
end


return _M
