-- What mtls.client() returns: the certificate, verdict, consumer and groups of the client of a request.

local bit = require "bit"
local library = require "resty.mtls.internal.library"
local certificate = require "resty.mtls.certificate"
local connection = require "resty.mtls.internal.connection"
local header_lines = require "resty.mtls.internal.header_lines"
local records = require "resty.mtls.internal.records"
local request_headers = require "resty.mtls.internal.request_headers"
local request_state = require "resty.mtls.internal.request_state"
local reserved_headers = require "resty.mtls.internal.reserved_headers"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local NOT_FOUND = CONST.NOT_FOUND
local NOT_VERIFIED = CONST.VERDICT_NOT_VERIFIED
local NO_CONSUMER = CONST.VERDICT_NO_CONSUMER
local CONSUMER = CONST.IDENTITY_CONSUMER
local PLAN_HEADER_CERTIFICATE = CONST.PLAN_HEADER_CERTIFICATE
local PLAN_OR_TLS = CONST.PLAN_OR_TLS
local X509_V_OK = library.X509_V_OK
local band = bit.band
local error = error
local ngx = ngx
local ngx_time = ngx.time
local setmetatable = setmetatable
local ssl_pointer = connection.ssl
local type = type


local _M = {}


-- The certificate of the connection, or nil and the status.
local function of_connection(engine, ssl)
    return certificate.wrap(function(out)
        return C.rmtls_engine_tls_client(engine.handle, ssl, out)
    end)
end


-- The certificate that the request presents on a plan, or nil and the status; third whether it is from a
-- header.
local function presented_on(engine, plan, ssl)
    local flags = engine:plan_flags(plan)
    if band(flags, PLAN_HEADER_CERTIFICATE) ~= 0 then
        local presented, status = request_headers.certificate(engine, plan, ssl)
        if presented or band(flags, PLAN_OR_TLS) == 0 then
            return presented, status, true
        end

        return request_headers.certificate(engine, plan, ssl, true)
    end

    return of_connection(engine, ssl)
end


-- The certificate of a client that is in the client cache, or nil and the status.
local function cached_certificate(engine, client, generation)
    return certificate.wrap(function(out)
        return C.rmtls_engine_cached_client(engine.handle, client, generation, out)
    end)
end


-- Methods of what client() returns.
local client_methods = {}
local client_mt = { __index = client_methods }


-- Why this method cannot describe the certificate of a client, or nil.
local function unusable(client, method)
    if client._without_certificate then
        return method .. ": the request has no certificate"
    end

    if client._epoch ~= C.rmtls_engine_epoch(client._engine.handle) then
        return method .. ": another policy than the one that decided is in force"
    end
end


-- The certificate of a client, or nil for the one of the connection.
local function certificate_of(client)
    if client._presented or not client._generation then
        return client._presented
    end

    return (cached_certificate(client._engine, client._client, client._generation))
end


-- The value with this key in a dialect, or nil; when no header may contain the value, also the reason.
-- The value describes the certificate of this request even if verification failed.
function client_methods:header_value(dialect, key)
    if type(dialect) ~= "string" or type(key) ~= "string" then
        error("header_value: dialect and key must be strings", 2)
    end

    local why = unusable(self, "header_value")
    if why then
        return nil, why
    end

    local message = library.buffer(1024)
    local presented = certificate_of(self)
    local handle = presented and presented.handle
    local status
    local value, err = library.read("header_value", function(out)
        status = C.rmtls_engine_header_value(self._engine.handle, ssl_pointer(), handle, self._plan,
                                             self._verdict, dialect, #dialect, key, #key, ngx_time(), out, message)

        return status
    end)
    if status == CONST.INVALID then
        error(library.text(message), 2)
    end

    if status == NOT_FOUND then
        error("header_value: the dialect '" .. dialect .. "' has no value '" .. key .. "'", 2)
    end

    if not value then
        return nil, message.len > 0 and library.text(message) or err
    end

    return value ~= "" and value or nil
end


-- The 21 properties of Cloudflare's tlsClientAuth.
function client_methods:cloudflare()
    local why = unusable(self, "cloudflare")
    if why then
        return nil, why
    end

    local presented = certificate_of(self)
    local properties, status = header_lines.properties(
        C.rmtls_engine_cloudflare(self._engine.handle, ssl_pointer(), presented and presented.handle,
                                  self._plan, self._verdict, ngx_time(), header_lines.out))
    if not properties then
        return library.failure("cloudflare", status)
    end

    return properties
end


-- The SPIFFE ID and trust domain of a trusted certificate, and its trust anchor { subject_dn, id }; nil for what
-- it has not. id is that of the entry of ca_certificates.
local function anchor_of(engine, plan, presented)
    local spiffe_id, trust_domain = library.read("spiffe_id", function(id, domain)
        return C.rmtls_engine_spiffe_id(engine.handle, presented.handle, plan, id, domain)
    end, true)
    local subject_dn, id = library.read("anchor", function(subject, entry)
        return C.rmtls_engine_anchor(engine.handle, presented.handle, plan, ngx_time(), subject, entry)
    end, true)

    local anchor = subject_dn and { subject_dn = subject_dn, id = id ~= "" and id or nil }

    return spiffe_id, spiffe_id and trust_domain, anchor
end


local OF_CERTIFICATE = {
    "subject_dn", "issuer_dn", "serial", "fingerprint_sha1", "fingerprint_sha256", "not_before", "not_after", "subject",
    "san", "pem", "chain_pem",
}


local function new_client(engine, epoch, plan, presented, from_header, verdict, record, decision)
    local identity = record and (decision.identity == CONSUMER or record.is_client and verdict == X509_V_OK)
                     and record.identity
    local spiffe_id, trust_domain, anchor
    -- After a reload, the number of the plan has another meaning.
    if verdict == X509_V_OK and epoch == C.rmtls_engine_epoch(engine.handle) then
        spiffe_id, trust_domain, anchor = anchor_of(engine, plan, presented)
    end

    local client = {
        _engine = engine,
        _epoch = epoch,
        _plan = plan,
        _verdict = verdict,
        verified = library.verdict_text(verdict),
        spiffe_id = spiffe_id,
        trust_domain = trust_domain or nil,
        anchor = anchor or nil,
        source = from_header and "header" or "tls",
        -- A certificate from a header is not that of the connection.
        _presented = from_header and presented or nil,
        _client = record and decision.client,
        _generation = record and record.is_client and decision.generation,
        consumer = identity and identity.consumer or nil,
        groups = identity and identity.groups or {},
    }
    for i = 1, #OF_CERTIFICATE do
        client[OF_CERTIFICATE[i]] = presented[OF_CERTIFICATE[i]]
    end

    return setmetatable(client, client_mt)
end


-- The client of a request without a certificate, whose token has a consumer; nil if it has none.
local function without_certificate(engine, record, decision)
    if not record or not record.identity or decision.identity ~= CONSUMER then
        return nil
    end

    return setmetatable({
        _engine = engine,
        _without_certificate = true,
        verified = "NONE",
        consumer = record.identity.consumer,
        groups = record.identity.groups,
    }, client_mt)
end


-- Phases in which request headers can be read.
local HEADER_PHASES = { rewrite = true, access = true, content = true }


-- Whether the certificate of a request that is not decided can be read. One in a header cannot be trusted before
-- reserved headers are removed.
local function is_readable(engine)
    if band(engine:plan_flags(engine:plan()), PLAN_HEADER_CERTIFICATE) == 0 then
        return true
    end

    if not HEADER_PHASES[ngx.get_phase()] then
        return false
    end

    reserved_headers.remove(engine)

    return true
end


-- The client of this request; nil when it presented no certificate. The table also serves other requests
-- of this client and must not be written to.
function _M.of_request(engine)
    local ssl = ssl_pointer()
    local state = request_state.current()
    local record
    if request_state.is_decided(state) then
        record = request_state.record(state)
    elseif not is_readable(engine) then
        return nil
    end

    local decision = record and state.decision
    local plan = record and record.plan or engine:plan()
    local epoch = C.rmtls_engine_epoch(engine.handle)
    -- The plan number of a record is one of the policy that decided.
    local changed = record and record.epoch ~= epoch
    if not ssl and (changed or band(engine:plan_flags(plan), PLAN_HEADER_CERTIFICATE) == 0) then
        return without_certificate(engine, record, decision)
    end

    local verdict = decision and decision.verdict or NOT_VERIFIED
    -- A client with a consumer is always in the client cache.
    if verdict == X509_V_OK and not record.is_client then
        verdict = NO_CONSUMER
    end

    if record and record.view then
        return record.view
    end

    local presented, status, from_header
    if not changed then
        if record and record.is_client then
            presented = cached_certificate(engine, decision.client, decision.generation)
            from_header = decision.from_header == 1
        end

        if not presented then
            presented, status, from_header = presented_on(engine, plan, ssl)
        end
    elseif decision.from_header == 0 then
        presented, status = of_connection(engine, ssl)
    else
        -- The header was named by the policy that decided, which is no longer in force.
        return nil
    end

    if not presented then
        if status == NOT_FOUND then
            return without_certificate(engine, record, decision)
        end

        return library.failure("client", status)
    end

    local client = new_client(engine, record and record.epoch or epoch, plan, presented, from_header, verdict,
                              record, decision)
    if record and record.is_own then
        record.view = client
        -- Its texts and, with variables, their escaped forms; a client from a header also holds the
        -- certificate itself.
        local pem = #(client.pem or "") + #(client.chain_pem or "")
        records.keep(engine, record, 4000 + pem * (from_header and 35 or 5))
    end

    return client
end


-- The route for which access() decided about this request, "" for none; nil before that, and for a preflight that was
-- not authenticated.
function _M.route()
    local state = request_state.current()

    return request_state.is_decided(state) and state.is_preflight == 0 and request_state.route(state) or nil
end


return _M
