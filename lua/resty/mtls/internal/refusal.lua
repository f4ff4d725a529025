-- Refusals of requests: status, body, the words of $mtls_decision and $mtls_reason, and how they are sent. With the
-- option refusals = "nginx" only the status is set, so that error_page applies; the client learns nothing more.

local library = require "resty.mtls.internal.library"
local connection = require "resty.mtls.internal.connection"
local graceful_close = require "resty.mtls.internal.graceful_close"
local request_headers = require "resty.mtls.internal.request_headers"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local ffi_new = require("ffi").new
local ngx = ngx
local ngx_log = ngx.log
local ssl_pointer = connection.ssl

local WARN = ngx.WARN


local JSON = "application/json; charset=utf-8"
local REFUSED = CONST.DECISION_REFUSED

local BY_OUTCOME = {
    [CONST.DECISION_NO_CERTIFICATE] = { 401, "no_certificate", '{"message":"No required TLS certificate was sent"}' },
    [REFUSED] = { 401, "refused", '{"message":"TLS certificate failed verification"}' },
    [CONST.DECISION_MISDIRECTED] = { 421, "misdirected", '{"message":"Misdirected Request"}' },
    [CONST.DECISION_FORBIDDEN] = { 403, "forbidden", '{"message":"You cannot consume this service"}' },
    [CONST.DECISION_TOO_EARLY] = { 425, "too_early", '{"message":"Too Early"}' },
    [CONST.DECISION_UNAVAILABLE] = { 503, "unavailable", '{"message":"Service Unavailable"}' },
}

-- $mtls_reason of a refused certificate by the number of its verdict, X509_V_ERR_*
local BY_VERDICT = {
    [0] = "no_consumer",
    [1] = "unreadable",
    [3] = "revocation_unknown",
    [9] = "not_yet_valid",
    [10] = "expired",
    [12] = "revocation_unknown",
    [23] = "revoked",
    [26] = "wrong_purpose",
    [73] = "revocation_unknown",
    [74] = "revocation_unknown",
    [75] = "revocation_unknown",
}


local by_nginx = false
local is_outdated = ffi_new("int32_t[1]")


local _M = {}


-- init_by_lua*. mode: the option refusals, "json" or "nginx".
function _M.init(mode)
    by_nginx = mode == "nginx"
end


-- A refusal: { status, body, decision, reason, log }, and for tokens challenge and nonce. decision and reason are the
-- values of $mtls_decision and $mtls_reason; log is the reason for the error log, which nobody else may read.
function _M.new(outcome, verdict, log)
    local refusal = BY_OUTCOME[outcome]
    local reason = refusal[2]
    if outcome == REFUSED then
        reason = BY_VERDICT[verdict] or "untrusted"
    end

    return { status = refusal[1], body = refusal[3], decision = refusal[2], reason = reason, log = log }
end


-- Whether a new handshake may change a 401 or 421: the certificate request of the connection's server name has changed
-- since the client connected. The connection ends with such a refusal.
local function ends_connection(engine, refusal)
    local ssl = ssl_pointer()

    return (refusal.status == 401 or refusal.status == 421) and ssl ~= nil
           and C.rmtls_engine_is_outdated(engine.handle, ssl, is_outdated) == OK and is_outdated[0] == 1
end


-- Logs a refusal.
function _M.log(refusal)
    ngx_log(ngx.ERR, "[mtls] ", refusal.status, " ", refusal.log)
end


-- Logs a refusal of a plugin with `enforce: report`: the request passes.
function _M.log_reported(refusal)
    ngx_log(WARN, "[mtls] would refuse: ", refusal.status, " ", refusal.log)
end


-- The headers of the response: a list of { name, value }. Begins the end of the connection where the refusal needs
-- that; yields with HTTP/2 and HTTP/3.
function _M.response_headers(engine, refusal)
    local list = { { "Content-Type", JSON } }
    if refusal.challenge then
        list[#list + 1] = { "WWW-Authenticate", refusal.challenge }
    end

    if refusal.nonce then
        list[#list + 1] = { "DPoP-Nonce", refusal.nonce }
    end

    if ends_connection(engine, refusal) then
        graceful_close.begin()
    end

    return list
end


-- Ends the request with a refusal. Yields with HTTP/2 and HTTP/3 where the connection ends with it.
function _M.send(engine, refusal)
    ngx.header["WWW-Authenticate"] = refusal.challenge
    ngx.header["DPoP-Nonce"] = refusal.nonce
    if ends_connection(engine, refusal) then
        graceful_close.begin()
    end

    if by_nginx then
        request_headers.mark_refused()

        return ngx.exit(refusal.status)
    end

    ngx.status = refusal.status
    ngx.header["Content-Type"] = JSON
    ngx.header["Content-Length"] = #refusal.body
    ngx.print(refusal.body)

    return ngx.exit(refusal.status)
end


return _M
