-- Checks that an access token is bound to a client certificate (RFC 8705). The token must have been validated
-- by other code, such as lua-resty-openidc.
--
--     local token = require "resty.mtls.token"
--     local ok, err = token.check(claims, certificate)

local library = require "resty.mtls.internal.library"


local C = library.C
local error = error
local pcall = pcall
local require = require
local type = type


local MODES = { strict = 1, optional = 0 }


local _M = {}


-- true; or nil and an error, for the error log and not for the client.
--   token        the claims as a table or as JSON text (of a JWT, or an introspection response), or a
--                compact JWT, whose signature is not verified
--   certificate  a resty.mtls.certificate, or nil: the client presented none
--   opts.mode    "strict" (default): the token must be bound to the certificate. "optional": a token
--                without a binding is accepted
function _M.check(token, certificate, opts)
    if certificate ~= nil and (type(certificate) ~= "table" or not certificate.handle) then
        error("token.check: certificate must be a resty.mtls.certificate or nil", 2)
    end

    local mode = "strict"
    for name, value in pairs(opts or {}) do
        if name ~= "mode" then
            error("token.check: unknown option '" .. tostring(name) .. "', expected mode", 2)
        end

        mode = value
    end

    local strict = MODES[mode]
    if not strict then
        error("token.check: mode must be 'strict' or 'optional', got " .. tostring(mode), 2)
    end

    if type(token) == "table" then
        local found, cjson = pcall(require, "cjson.safe")
        if not found then
            error("token.check: claims given as a table need lua-cjson", 2)
        end

        -- No other claim is read, and others may have values that JSON does not have.
        local text, err = cjson.encode { cnf = token.cnf, active = token.active }
        if not text then
            return nil, "token.check: " .. err
        end

        token = text
    elseif type(token) ~= "string" then
        error("token.check: token must be a table or a string, got " .. type(token), 2)
    end

    local is_json = token:find("^%s*{") ~= nil

    local ok, err = library.try("token.check", function(message)
        return C.rmtls_token_check(token, #token, is_json and 0 or 1, certificate and certificate.handle, strict,
                                   message)
    end)

    if ok then
        return true
    end

    return nil, err
end


return _M
