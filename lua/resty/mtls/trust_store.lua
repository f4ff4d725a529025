-- CA certificates and the options for verifying client certificates against them.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local error = error
local type = type


local OPTIONS = { allow_partial_chain = "boolean", verify_depth = "number", auth_level = "number" }


local _M = {}
local mt = { __index = _M }


-- pem: one or more CA certificates. options: allow_partial_chain (default false), verify_depth
-- (most intermediates, default 10), auth_level (OpenSSL security level 0 to 5, default 2).
function _M.new(pem, options)
    if type(pem) ~= "string" then
        error("pem must be a string", 2)
    end

    options = options or {}
    for name, value in pairs(options) do
        if type(value) ~= OPTIONS[name] then
            error("option '" .. tostring(name) .. "' "
                  .. (OPTIONS[name] and "must be a " .. OPTIONS[name] or "is unknown"), 2)
        end
    end

    local handle
    local _, err = library.try("trust_store.new", function(message)
        local status
        handle, status = library.handle("rmtls_trust_store", function(out)
            return C.rmtls_trust_store_new(pem, #pem, options.allow_partial_chain and 1 or 0,
                                           options.verify_depth or -1, options.auth_level or -1,
                                           out, message)
        end, C.rmtls_trust_store_free)

        return status or CONST.OK
    end)
    if not handle then
        return nil, err
    end

    return setmetatable({ handle = handle }, mt)
end


-- true, or false, "FAILED:<reason>" and its X509_V_ERR_* number; nil and an error if it could not be verified.
function _M:verify(certificate, now)
    if type(certificate) ~= "table" or not certificate.handle then
        error("certificate must be a resty.mtls.certificate", 2)
    end

    local code = ffi.new("int32_t[1]")
    local verdict = library.buffer(256)
    local status = C.rmtls_trust_store_verify(self.handle, certificate.handle, now or ngx.time(),
                                              code, verdict)
    if status ~= CONST.OK then
        return library.failure("trust_store.verify", status)
    end

    if code[0] == 0 then
        return true
    end

    return false, library.text(verdict), code[0]
end


return _M
