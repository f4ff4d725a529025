-- Fetches the answer of one source: an OCSP responder by POST and GET, or a CRL. All workers share a fetch.

local answers = require "resty.mtls.internal.answers"
local evidence = require "resty.mtls.internal.revocation_evidence"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local metrics = require "resty.mtls.internal.metrics"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local sources_seen = require "resty.mtls.internal.revocation_sources"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local SOURCE_OCSP = CONST.REVOCATION_SOURCE_OCSP
local STATUS_GOOD = CONST.REVOCATION_STATUS_GOOD
local STATUS_REVOKED = CONST.REVOCATION_STATUS_REVOKED
local STATUS_UNKNOWN = CONST.REVOCATION_STATUS_UNKNOWN
local SHORTAGE = shared_cache.SHORTAGE
local SUPERSEDED = shared_cache.SUPERSEDED
local floor = math.floor
local max = math.max
local min = math.min
local monotonic = monotonic_clock.now
local ngx_time = ngx.time

-- An answer that another worker fetched within these seconds, and a fifth of cert_cache_ttl, is not fetched again.
local FRESH = 5
-- Seconds for which an answer is kept that came after its policy was replaced, and is not verified.
local UNVERIFIED_FOR = 30
-- Values of the label `answer`.
local ANSWERS = { [STATUS_GOOD] = "good", [STATUS_REVOKED] = "revoked" }
-- Longest URL of a GET request to a responder (RFC 5019 section 5).
local MAX_GET = 255
-- Milliseconds that must be left for it.
local MIN_GET = 20
-- The start of an OCSPResponse that is an error, and the errors after which a request with a nonce is tried:
-- malformedRequest, internalError, sigRequired, unauthorized.
local OCSP_ERROR = "\48\3\10\1"
local WANTS_NONCE = { [1] = true, [2] = true, [5] = true, [6] = true }


-- Longest OCSP response, in bytes.
local _M = { MAX_OCSP = 65536 }


local function with(opts, changes)
    local copy = {}
    for name, value in pairs(opts) do
        copy[name] = value
    end

    for name, value in pairs(changes) do
        copy[name] = value ~= "" and value or nil
    end

    return copy
end


-- The response of a server, if its status is 200 (or 304 where that is allowed); or nil, an error, its kind, and true
-- if the server has responded.
local function get_response(opts, deadline, not_modified)
    local left = floor(deadline - monotonic())
    if left < 1 then
        return nil, "timeout"
    end

    local response, err, kind, unusable = http.request(with(opts, { timeout = left }))
    if response and response.status ~= 200 and not (not_modified and response.status == 304) then
        return nil, "status " .. response.status, nil, true
    end

    return response, err, kind, unusable
end


-- Sends the OCSP request in the URL (RFC 6960 appendix A.1). nil without an error when it was not sent, because no time
-- was left or the URL would be too long.
local function get_ocsp(opts, deadline)
    local url = opts.url:gsub("/$", "") .. "/" .. ngx.escape_uri(ngx.encode_base64(opts.body))
    if #url > MAX_GET or deadline - monotonic() < MIN_GET then
        return nil
    end

    return get_response(with(opts, { url = url, method = "", body = "", content_type = "" }), deadline)
end


local function is_nonce_wanted(body)
    return #body == 5 and body:sub(1, 4) == OCSP_ERROR and WANTS_NONCE[body:byte(5)]
end


-- The OCSP response of a responder: by POST; if that fails, by GET; if the response is an error, by POST with a nonce.
-- nil, an error and its kind if there is none.
local function fetch_ocsp(opts, deadline)
    local response, err, kind = get_response(opts, deadline)
    if not response and not kind then
        local get_err, get_kind
        response, get_err, get_kind = get_ocsp(opts, deadline)
        if get_kind then
            err, kind = get_err, get_kind
        end
    end

    if response and is_nonce_wanted(response.body) then
        local with_nonce = library.read("revocation", function(out)
            return C.rmtls_ocsp_with_nonce(opts.body, #opts.body, out)
        end)
        response = with_nonce and get_response(with(opts, { body = with_nonce }), deadline) or response
    end

    return response, err, kind
end


-- Fetches from a source: the bytes, or nil, an error and its kind. What the engine could verify is kept, and
-- source.result has the status, or the error and its kind.
local function fetch(lookup, source, deadline)
    local dict = lookup.dict
    local generation = answers.generation(dict)
    local kept = answers.get_read(dict, source.key)
    if kept and kept.fetched > ngx_time() - min(FRESH, lookup.settings.ttl / 5) then
        return kept.bytes
    end

    local opts = with(lookup.options, { url = source.url, origin = http.CERTIFICATE, kind = source.label,
                                        gzip = true })
    local response, err, kind
    local superseded = answers.get_read(dict, source.unverified_key)
    local bytes = superseded and superseded.fetched > ngx_time() - UNVERIFIED_FOR and superseded.bytes
    if not bytes and source.kind == SOURCE_OCSP then
        response, err, kind = fetch_ocsp(with(opts, {
            method = "POST",
            body = source.request,
            content_type = "application/ocsp-request",
            accept = "application/ocsp-response",
            max_bytes = _M.MAX_OCSP,
        }), deadline)
    elseif not bytes then
        local headers = {}
        if kept then
            headers["If-None-Match"] = kept.etag
            headers["If-Modified-Since"] = kept.last_modified
        end

        local max_bytes = lookup.settings.max_crl_bytes
        response, err, kind = get_response(with(opts, { max_bytes = max_bytes, headers = headers }), deadline, kept)
    end

    if not bytes and not response then
        return nil, err, kind
    end

    local not_modified = response and response.status == 304
    bytes = bytes or not_modified and kept.bytes or response.body
    local state, found, found_kind = evidence.verify_parsed(lookup, source, bytes, ngx_time(), deadline)
    source.result = { state, found, found_kind }
    if found_kind ~= SUPERSEDED and found_kind ~= SHORTAGE then
        metrics.count("revocation_answers_total", source.label, ANSWERS[state] or "rejected")
    end

    if found_kind == SUPERSEDED then
        -- The next policy has it verified instead of fetching it again.
        answers.put(dict, source.unverified_key, {
            bytes = bytes, kind = SOURCE_OCSP, state = STATUS_UNKNOWN, hold = false, fetched = ngx_time(),
            this_update = 0, next_update = ngx_time() + UNVERIFIED_FOR,
        }, generation)
    end

    if state and found.this_update >= 0 then
        found.bytes = bytes
        found.etag = not_modified and kept.etag or response and response.headers.etag
        found.last_modified = not_modified and kept.last_modified or response and response.headers["last-modified"]
        answers.put(dict, source.key, found, generation)
        if response then
            -- Nobody waits for Redis.
            ngx.thread.spawn(answers.to_fleet, source.key, found)
        end
    end

    return bytes
end


-- Gets the status from one source: the state; or nil, an error, and its kind if the source is not at fault.
function _M.ask(lookup, source, deadline)
    source.result = nil
    local opts = { host = source.url, options = lookup.failure_scope, timeout = max(floor(deadline - monotonic()), 1) }
    local generation = answers.generation(lookup.dict)
    local key = lookup.failure_scope .. "source:" .. generation .. ":" .. source.key
    local bytes, err, kind = shared_cache.get(lookup.dict, key, opts, function()
        return fetch(lookup, source, deadline)
    end)
    if not bytes then
        if not kind then
            sources_seen.record(source.url, source.label, err)
        end

        return nil, source.url .. ": " .. err, kind
    end

    local result = source.result
    if not result then
        result = { evidence.verify_parsed(lookup, source, bytes, ngx_time(), deadline) }
    end

    local state, why, why_kind = result[1], result[2], result[3]
    if state then
        -- Without a source that gives it, the status is that of another answer.
        local is_crl = source.kind ~= SOURCE_OCSP and why and why.this_update >= 0
        sources_seen.record(source.url, source.label, nil, is_crl and {
            next_update = why.crl_next_update, entries = why.crl_entries, bytes = #bytes,
        } or nil)
        if state ~= STATUS_REVOKED and answers.generation(lookup.dict) ~= generation then
            -- It may be older than the flush, and the engine has it by now.
            C.rmtls_engine_forget_statuses(lookup.engine.handle)

            return nil, source.url .. ": flushed meanwhile", SUPERSEDED
        end

        return state
    end

    if not why_kind then
        sources_seen.record(source.url, source.label, why)
    end

    return nil, source.url .. ": " .. why, why_kind
end


return _M
