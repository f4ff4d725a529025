-- A client certificate and the chain that was sent with it.
--
-- Fields are read from the library on first use: subject_dn, issuer_dn, serial, fingerprint_sha1,
-- fingerprint_sha256, x5t_s256 (as in the cnf of a token), pem, chain_pem (strings); not_before, not_after
-- (seconds since the epoch); subject ({ CN = { "..." }, ... }); san ({ dns = { ... }, uri, email, ip, dirname }).
-- A field that cannot be read from the certificate is nil, and so is a list of over 1,000 names.

local ffi = require "ffi"
local line_reader = require "resty.mtls.internal.header_lines"
local library = require "resty.mtls.internal.library"
local connection = require "resty.mtls.internal.connection"
local options = require "resty.mtls.internal.options"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local NOT_FOUND = CONST.NOT_FOUND
local rawset = rawset
local tonumber = tonumber
local type = type


local TEXT_FIELDS = {
    subject_dn = CONST.FIELD_SUBJECT_DN,
    issuer_dn = CONST.FIELD_ISSUER_DN,
    serial = CONST.FIELD_SERIAL,
    fingerprint_sha1 = CONST.FIELD_SHA1,
    fingerprint_sha256 = CONST.FIELD_SHA256,
    pem = CONST.FIELD_PEM,
    chain_pem = CONST.FIELD_CHAIN_PEM,
    x5t_s256 = CONST.FIELD_X5T_S256,
}


local FROM_HEADER_OPTIONS = { xfcc_element = "string" }
local XFCC_ELEMENTS = {
    only = CONST.XFCC_ELEMENT_ONLY,
    last = CONST.XFCC_ELEMENT_LAST,
    first = CONST.XFCC_ELEMENT_FIRST,
}


local SAN_KINDS = { DNS = "dns", URI = "uri", email = "email", IP = "ip", dirName = "dirname" }


local _M = {}


local function validity(self, key)
    local times = ffi.new("int64_t[2]")
    if C.rmtls_certificate_validity(self.handle, times, times + 1) ~= CONST.OK then
        return nil
    end

    self.not_before = tonumber(times[0])
    self.not_after = tonumber(times[1])

    return self[key]
end


local function subject(self)
    local attributes = {}
    for i = 0, math.huge do
        local name, value = library.read("certificate.subject", function(a, b)
            return C.rmtls_certificate_subject(self.handle, i, a, b)
        end, true)
        if not name then
            return not value and attributes or nil
        end

        local values = attributes[name] or {}
        values[#values + 1] = value
        attributes[name] = values
    end
end


local function san(self)
    local names = { dns = {}, uri = {}, email = {}, ip = {}, dirname = {} }
    for i = 0, math.huge do
        local kind, value = library.read("certificate.san", function(a, b)
            return C.rmtls_certificate_san(self.handle, i, a, b)
        end, true)
        if not kind then
            return not value and names or nil
        end

        local values = names[SAN_KINDS[kind]]
        values[#values + 1] = value
    end
end


local COMPUTED = {
    not_before = validity,
    not_after = validity,
    subject = subject,
    san = san,
}


local mt = {}


function mt.__index(self, key)
    local method = _M[key]
    if method then
        return method
    end

    local field = TEXT_FIELDS[key]
    local value
    if field then
        value = library.read("certificate." .. key, function(out)
            return C.rmtls_certificate_get(self.handle, field, out)
        end)
    elseif COMPUTED[key] then
        value = COMPUTED[key](self, key)
    end

    rawset(self, key, value)

    return value
end


local function wrap(make)
    local handle, status = library.handle("rmtls_certificate", make, C.rmtls_certificate_free)
    if handle then
        return setmetatable({ handle = handle }, mt)
    end

    return nil, status
end
_M.wrap = wrap


-- The certificate that was presented on the connection of this request, also on a resumed one; nil if none was.
function _M.from_connection()
    local ssl = connection.ssl()
    if not ssl then
        return nil
    end

    local certificate, status = wrap(function(out)
        return C.rmtls_certificate_from_ssl(ssl, out)
    end)
    if certificate or status == NOT_FOUND then
        return certificate
    end

    return library.failure("certificate.from_connection", status)
end


-- The certificate in a PEM text, leaf first.
function _M.from_pem(pem)
    if type(pem) ~= "string" then
        error("pem must be a string", 2)
    end

    local certificate
    local _, err = library.try("certificate.from_pem", function(message)
        local status
        certificate, status = wrap(function(out)
            return C.rmtls_certificate_from_pem(pem, #pem, out, message)
        end)

        return status or CONST.OK
    end)

    return certificate, err
end


local function header_lines(name, values)
    if type(values) == "string" then
        values = { values }
    elseif type(values) ~= "table" then
        error(name .. " must be a string or a table of strings", 3)
    end

    local array = ffi.new("rmtls_request_header[?]", #values)
    for i = 1, #values do
        if type(values[i]) ~= "string" then
            error(name .. " must be a string or a table of strings", 3)
        end

        array[i - 1].value = values[i]
        array[i - 1].value_len = #values[i]
    end

    return array, #values, values
end


-- The certificate in the header of a proxy. value is what ngx.req.get_headers() returns for the header, chain
-- what it returns for the header of the chain (format "rfc9440"). format: "base64_encoded", "url_encoded",
-- "rfc9440", "xfcc", "traefik", "aws_alb" or "auto". nil when the value means that there is no certificate;
-- nil and an error when it is repeated or not exactly in that format.
--
-- opts.xfcc_element: which element of several is read in the format "xfcc": "only" (the default), "last" or
-- "first".
--
-- The sender of the header is not checked. Use this only where no client but the proxy can send it.
function _M.from_header(format, value, chain, opts)
    if type(format) ~= "string" then
        error("format must be a string", 2)
    end

    if opts ~= nil then
        options.check("certificate.from_header", opts, FROM_HEADER_OPTIONS, 3)
    end

    local element = XFCC_ELEMENTS[opts and opts.xfcc_element or "only"]
    if not element then
        error("certificate.from_header: xfcc_element must be only, last or first", 2)
    end

    local lines, lines_len, values = header_lines("value", value or {})
    local chain_lines, chain_lines_len, chain_values = header_lines("chain", chain or {})
    local message = library.buffer(1024)
    local certificate, status = wrap(function(out)
        return C.rmtls_certificate_from_header(format, #format, element, lines, lines_len, chain_lines,
                                               chain_lines_len, out, message)
    end)
    -- Keeps the strings alive to which the arrays have bare pointers.
    assert(values and chain_values)
    if certificate then
        return certificate
    end

    if status == NOT_FOUND then
        return nil
    end

    if status == CONST.UNKNOWN_NAME then
        error("certificate.from_header: " .. library.text(message), 2)
    end

    return library.failure("certificate.from_header", status, message)
end


-- The headers of a dialect as a table name -> value; names without a value are absent. The second result has
-- those that no header may contain, as a table name -> reason. With a store, the headers contain its verdict;
-- without one, the verdict in them is that the certificate was not verified.
function _M:headers(dialect, store)
    if type(dialect) ~= "string" then
        error("dialect must be a string", 2)
    end

    local verdict = CONST.VERDICT_NOT_VERIFIED
    if store then
        local trusted, reason, code = self:verify(store)
        if trusted == nil then
            return nil, reason
        end

        verdict = code or library.X509_V_OK
    end

    local message = library.buffer(1024)
    local found, left_out, status = line_reader.of_certificate(
        C.rmtls_certificate_header_lines(self.handle, dialect, #dialect, verdict, ngx.time(), line_reader.out,
                                         message))
    if status == CONST.INVALID then
        error(library.text(message), 2)
    end

    if not found then
        return library.failure("certificate.headers", status, message)
    end

    return found, left_out
end


-- true, or false and "FAILED:<reason>"; nil and an error if it could not be verified. now: seconds since the
-- epoch (default: the current time).
function _M:verify(store, now)
    if type(store) ~= "table" or not store.handle then
        error("store must be a resty.mtls.trust_store", 2)
    end

    return store:verify(self, now)
end


return _M
