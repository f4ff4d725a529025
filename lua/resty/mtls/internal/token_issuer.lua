-- Access tokens. The engine validates them; this module gives it what it needs from the issuer: its documents
-- (token_documents.lua) and introspection responses (token_introspection.lua).

local ffi = require "ffi"
local engine_of_worker = require "resty.mtls.internal.engine"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local request_headers = require "resty.mtls.internal.request_headers"
local library = require "resty.mtls.internal.library"
local dpop = require "resty.mtls.internal.dpop"
local token_documents = require "resty.mtls.internal.token_documents"
local token_identity = require "resty.mtls.internal.token_identity"
local token_introspection = require "resty.mtls.internal.token_introspection"
local token_options = require "resty.mtls.internal.token_options"
local revocation = require "resty.mtls.internal.revocation"
local shortage = require "resty.mtls.internal.shortage"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local options_of = token_options.of
local PASS = CONST.TOKEN_PASS
local NO_TOKEN = CONST.TOKEN_NO_TOKEN
local REFUSED = CONST.TOKEN_REFUSED
local FORBIDDEN = CONST.TOKEN_FORBIDDEN
local NEEDS_KEYS = CONST.TOKEN_NEEDS_KEYS
local NEEDS_INTROSPECTION = CONST.TOKEN_NEEDS_INTROSPECTION
local NO_PLAN = 0xffffffff
local DPOP_OFF = CONST.DPOP_OFF
local DPOP_STRICT = CONST.DPOP_STRICT
local USE_DPOP_NONCE = "use_dpop_nonce"
local clear_header = ngx.req.clear_header
local error = error
local ngx = ngx
local ngx_time = ngx.time
local set_header = ngx.req.set_header


local GENERATION = "token_issuer:generation"
-- How often one token is validated: keys, introspection and revocation are fetched at most twice each.
local MAX_VALIDATIONS = 6


local result = ffi.new("rmtls_token_decision")
local claims = ffi.new("rmtls_lines")
local claims_are_new = ffi.new("int32_t[1]")
local description = library.buffer(256)
local reason = library.buffer(4096)

-- A number that flush() changes, as a part of keys, and when it was read.
local generation = ""
local generation_read_at = 0


local _M = {}


-- The scheme and the token of a request whose token is well-formed. In a header other than Authorization the
-- scheme may be missing.
local function scheme_and_token(request)
    local value = request.authorization.values[1]
    local scheme, token = value:match("^(%S+)%s+(%S+)%s*$")
    if not scheme then
        return "Bearer", value:match("^%s*(%S+)")
    end

    return scheme, token
end


-- Has the engine validate the token; description and reason are set for a refusal.
local function validate(engine, plan, options, request, ssl, latest, dict)
    description.len = 0
    reason.len = 0
    local proof = options.dpop ~= DPOP_OFF and dpop.request(request, dict) or nil
    local status = C.rmtls_engine_check_token(engine.handle, ssl, plan, request.authorization.array,
                                              request.authorization.count, proof,
                                              request.received.array, request.received.count, request.trusted,
                                              latest, ngx_time(), result, description, reason)
    if status ~= OK then
        error(select(2, library.failure("token", status, reason)))
    end

    return result.decision
end


local function json(text)
    text = text:gsub('[%z\1-\31"\\]', function(char)
        return ("\\u%04x"):format(char:byte())
    end)

    return '{"message":"' .. text .. '"}'
end


local function with_error(scheme, code, text)
    if not code then
        return scheme
    end

    return scheme .. ' error="' .. code .. '", error_description="' .. text .. '"'
end


-- The value of WWW-Authenticate. It is one line, since nginx before 1.23 has only one such header. The error is
-- that of the scheme that the client used.
local function challenge(options, request, code, text)
    text = text or library.text(description)
    code = (options.expose_error_code or code == USE_DPOP_NONCE) and code
    if options.dpop == DPOP_OFF then
        return with_error("Bearer", code, text)
    end

    local authorization = request.authorization.values[1] or ""
    local by_key = options.dpop == DPOP_STRICT or authorization:sub(1, 5):lower() == "dpop "
    local of_dpop = with_error("DPoP", by_key and code, text)
                    .. (by_key and code and ", " or " ") .. 'algs="' .. dpop.ALGORITHMS .. '"'
    if options.dpop == DPOP_STRICT then
        return of_dpop
    end

    return with_error("Bearer", not by_key and code, text) .. ", " .. of_dpop
end


-- A refusal with status 503. kind: the kind of the error, if it is not a failure of the issuer.
local function unavailable(err, kind)
    local word = kind and "unavailable" or "issuer_unavailable"

    return { status = 503, body = json("Service Unavailable"), decision = word, reason = word, log = err }
end
_M.unavailable = unavailable


local CHALLENGES = {
    [CONST.CHALLENGE_DPOP_PROOF] = "invalid_dpop_proof",
    [CONST.CHALLENGE_DPOP_NONCE] = USE_DPOP_NONCE,
}


local function refusal(engine, plan, options, request, decision, dict)
    local why = library.text(reason)
    if decision == FORBIDDEN then
        local code = result.challenge ~= CONST.CHALLENGE_NONE and "insufficient_scope" or nil

        return { status = 403, body = json(options.forbidden), decision = "token_forbidden", reason = "token_forbidden",
                 challenge = challenge(options, request, code), log = why }
    end

    local none = decision == NO_TOKEN
    local word = none and "no_token" or "token_refused"

    return { status = 401, body = json(options.unauthorized), decision = word, reason = word, log = why,
             challenge = challenge(options, request, not none and (CHALLENGES[result.challenge] or "invalid_token")),
             nonce = result.challenge == CONST.CHALLENGE_DPOP_NONCE and dpop.nonce(engine, plan, dict) or nil }
end


-- Applies the token that check() accepted to the decision about the certificate, and returns the outcome.
function _M.apply(engine, plan, ssl, decision, why)
    return token_identity.apply(engine, plan, ssl, request_headers.of_request(options_of(engine, plan).token_header),
                                decision, why)
end


-- Lets a request pass whose token check() did not accept, where openid-connect has `enforce: report`. Returns the
-- outcome, or nil where the request must be refused.
function _M.pass_without(engine, plan, ssl, decision, why)
    local request = request_headers.of_request(options_of(engine, plan).token_header)

    return token_identity.pass_without(engine, plan, ssl, request, decision, why)
end


-- The header lines for the claims of the token, an rmtls_lines that is valid until the next decision, and whether they
-- are new; nil for a request without a valid token.
function _M.claims(engine, plan)
    local request = request_headers.of_request(options_of(engine, plan).token_header)
    if token_identity.is_without(request) then
        return nil
    end

    local token = request.token
    local status = C.rmtls_engine_claim_headers(engine.handle, plan, token.slot, token.generation, claims,
                                                claims_are_new)
    if status ~= OK then
        error(select(2, library.failure("claims", status)))
    end

    return claims, claims_are_new[0] == 1
end


-- Once a second: forgets what was fetched before a flush.
local function forget_flushed(engine, dict)
    local now = ngx_time()
    if generation_read_at == now then
        return
    end

    generation_read_at = now
    local shared = ngx.shared[dict]
    local flushes = shared and shared:get(GENERATION)
    local found = flushes and flushes .. ":" or ""
    if found ~= generation then
        generation = found
        token_documents.forget()
        token_options.set_generation(found)
        C.rmtls_engine_forget_tokens(engine.handle)
    end
end


-- Validates the token of this request. Returns true when it is valid; nil and a refusal (resty.mtls.internal.refusal);
-- or nil when another policy came into force meanwhile
-- and the whole request must be decided again. Yields.
function _M.check(engine, route, plan, ssl, dict)
    forget_flushed(engine, dict)
    local options = options_of(engine, plan)
    local request = request_headers.of_request(options.token_header)
    local epoch = C.rmtls_engine_epoch(engine.handle)
    local latest = 0

    -- Without a token, no documents are needed.
    if request.authorization.count > 0 and not token_documents.check(engine, plan, options, dict) then
        local ok, err, kind = token_documents.load(engine, plan, options, dict, epoch)
        if not ok and kind ~= shared_cache.SUPERSEDED then
            return nil, unavailable(err, kind)
        end
    end

    for _ = 1, MAX_VALIDATIONS do
        if C.rmtls_engine_epoch(engine.handle) ~= epoch then
            return nil
        end

        local decision = validate(engine, plan, options, request, ssl, latest, dict)
        if decision == PASS then
            local used, lacking = dpop.is_used(request, result, dict)
            if lacking then
                return nil, unavailable(lacking, shortage.KIND)
            end

            if not used then
                return token_identity.accept(request, result)
            end

            local refused = refusal(engine, plan, options, request, REFUSED, dict)
            refused.log = "DPoP proof refused: it was used before"
            refused.challenge = challenge(options, request, "invalid_dpop_proof", "The DPoP proof was used before")

            return nil, refused
        end

        if decision == NO_TOKEN or decision == REFUSED or decision == FORBIDDEN then
            return nil, refusal(engine, plan, options, request, decision, dict)
        end

        if decision == NEEDS_KEYS then
            local ok, err, detail = token_documents.load(engine, plan, options, dict, epoch)
            if not ok and detail ~= shared_cache.SUPERSEDED then
                return nil, unavailable(err, detail)
            end

            latest = ok and detail or 1

        elseif decision == NEEDS_INTROSPECTION then
            local _, token = scheme_and_token(request)
            local found, err, kind = token_introspection.introspect(engine, plan, options, dict, token, result.id)
            if C.rmtls_engine_epoch(engine.handle) ~= epoch then
                return nil
            end

            if not found then
                return nil, unavailable(err, kind)
            end

            description.len = 0
            reason.len = 0
            local status = C.rmtls_engine_set_introspection(engine.handle, plan, request.authorization.array,
                                                            request.authorization.count, found, #found,
                                                            ngx_time(), result, description, reason)
            if status ~= OK then
                return nil, unavailable(select(2, library.failure("introspection", status, reason)))
            end

            -- With an anonymous consumer, the next validation finds that the token is refused.
            if result.decision ~= PASS and not options.anonymous then
                return nil, refusal(engine, plan, options, request, result.decision, dict)
            end

        else
            local certificate_plan = options.certificate_plan
            if certificate_plan == NO_PLAN then
                error("no plan verifies the certificate of the token")
            end

            local function find_plan()
                local current = engine:plan(route)

                return current and bit.band(engine:plan_flags(current), CONST.PLAN_TOKEN) ~= 0
                       and options_of(engine, current).certificate_plan or nil
            end

            local resolved, lacking = revocation.resolve(engine, certificate_plan, dict, find_plan, function(out)
                return C.rmtls_engine_unverified_certificate(engine.handle, ssl, certificate_plan,
                                                             request.received.array,
                                                             request.received.count, request.trusted, 1, out)
            end)
            if not resolved and lacking then
                return nil, unavailable(lacking, shortage.KIND)
            end
        end
    end

    return nil, unavailable("the token is still not validated")
end


-- Changes the headers with the credentials of a request that passes. The upstream gets the token in Authorization,
-- wherever it was sent: another token there would not be validated. It gets none of a request without a valid token.
-- ensure_changeable: ends a request whose headers cannot be changed.
function _M.set_credentials(engine, plan, ensure_changeable)
    local options = options_of(engine, plan)
    local request = request_headers.of_request(options.token_header)
    local hide = options.hide_credentials or token_identity.is_without(request)
    if not hide and not options.token_header then
        return
    end

    ensure_changeable()
    if hide then
        clear_header("Authorization")
        clear_header("DPoP")
    end

    if not options.token_header then
        return
    end

    if not hide then
        local scheme, token = scheme_and_token(request)
        set_header("Authorization", scheme .. " " .. token)

        return
    end

    local names = request.authorization.sent_names
    for i = 1, #names do
        clear_header(names[i])
    end
end


-- Forgets documents of issuers and introspection responses, on all workers within a second.
function _M.flush(dict)
    dict = dict or "mtls"
    local shared = ngx.shared[dict]
    if shared then
        shared:incr(GENERATION, 1, 0)
    end

    generation_read_at = 0
    forget_flushed(engine_of_worker.current(), dict)
end


return _M
