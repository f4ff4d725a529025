-- Access tokens. The engine validates them; this module fetches what it needs from the issuer: the
-- discovery document unless all URLs are configured, the keys, and introspection responses.
--
-- The documents of an issuer are shared between workers. They are renewed every ten minutes; if the issuer
-- does not answer, the previous ones stay in use for a day. For a token whose key is not among them they
-- are renewed at once, but at most once in rediscovery_lifetime seconds.

local ffi = require "ffi"
local engine_of_worker = require "resty.mtls.internal.engine"
local http = require "resty.mtls.internal.net.http"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local upstream_headers = require "resty.mtls.internal.upstream_headers"
local request_headers = require "resty.mtls.internal.request_headers"
local library = require "resty.mtls.internal.library"
local dpop = require "resty.mtls.internal.dpop"
local token_client_certificate = require "resty.mtls.internal.token_client_certificate"
local token_identity = require "resty.mtls.internal.token_identity"
local token_options = require "resty.mtls.internal.token_options"
local revocation = require "resty.mtls.internal.revocation"
local shortage = require "resty.mtls.internal.shortage"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local options_of = token_options.of
local origin_of = token_options.origin_of
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
local JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
local band = bit.band
local concat = table.concat
local clear_header = ngx.req.clear_header
local error = error
local floor = math.floor
local min = math.min
local ngx = ngx
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_time = ngx.time
local set_header = ngx.req.set_header
local tonumber = tonumber
local tostring = tostring


-- Bytes of a discovery document or an introspection response, and of a JWK Set.
local MAX_DOCUMENT = 262144
local GENERATION = "token_issuer:generation"
local MAX_KEYS = 1048576
-- Seconds after which documents are renewed.
local MAX_AGE = 600
-- Seconds for which documents are used that cannot be renewed.
local MAX_STALE = 86400
-- Seconds between two checks of a worker whether there are newer documents.
local CHECK_INTERVAL = 10
-- What the cached times of two workers may differ by, in seconds.
local CLOCK_TOLERANCE = 1
-- Seconds for which concurrent requests with the same token share an introspection response.
local INTROSPECTION_TTL = 1
-- How often one token is validated: keys, introspection and revocation are fetched at most twice each.
local MAX_VALIDATIONS = 6


local result = ffi.new("rmtls_token_decision")
local number = ffi.new("uint32_t[1]")
local claims = ffi.new("rmtls_lines")
local claims_are_new = ffi.new("int32_t[1]")
local description = library.buffer(256)
local reason = library.buffer(4096)

-- The documents that the engine has, by key of their options: { time, next_check, set_at }, where time is
-- when they were fetched.
local documents_in_use = {}
-- Documents that did not fit into the shared dictionary.
local worker_documents = {}
-- A number that flush() changes, as a part of keys, and when it was read.
local generation = ""
local generation_read_at = 0


local _M = {}


-- A URL for the log: without the query, which may contain a secret.
local function printable(target)
    return target:match("^[^?]*")
end


-- The body of a document, or nil, an error and its kind.
local function get_document(options, deadline, target, max_bytes, origin)
    local left = floor((deadline - ngx_now()) * 1000)
    if left < 1 then
        return nil, printable(target) .. ": timeout"
    end

    local found, err, kind = http.request {
        url = target,
        origin = origin,
        accept = "application/json",
        gzip = true,
        max_bytes = max_bytes,
        ssl_verify = options.ssl_verify,
        timeout = left,
        kind = "token",
    }
    if found and found.status ~= 200 then
        return nil, printable(target) .. ": status " .. found.status
    end

    return found and found.body, err, kind
end


-- The discovery document and the URL of the keys in it ("" for none), or nil, an error and its kind.
local function request_discovery(options, deadline)
    local target = options.discovery_url
    local discovery, err, kind = get_document(options, deadline, target, MAX_DOCUMENT, origin_of(options, target))
    if not discovery then
        return nil, err, kind
    end

    local message = library.buffer(1024)
    local jwks_uri, introspection = library.read("discovery", function(a, b)
        return C.rmtls_discovery_read(discovery, #discovery, options.document_issuers,
                                      #options.document_issuers, a, b, message)
    end, true)
    if not jwks_uri then
        return nil, printable(target) .. ": discovery document: "
                    .. (message.len > 0 and library.text(message) or introspection)
    end

    return discovery, jwks_uri
end


-- A JWK Set, or nil, an error and its kind. Keys that cannot be used must not replace those in use.
local function request_keys(options, deadline, target, origin)
    local keys, err, kind = get_document(options, deadline, target, MAX_KEYS, origin)
    if not keys then
        return nil, err, kind
    end

    local ok
    ok, err = library.try(printable(target), function(text)
        return C.rmtls_jwks_check(keys, #keys, number, text)
    end)
    if not ok then
        return nil, err
    end

    return keys
end


-- "time:length:lengths:discovery document, sets of keys" from the issuer, or nil, an error and its kind. It is
-- all or nothing: with some of the sets, tokens would be refused that are valid.
local function request_documents(options)
    local deadline = ngx_now() + options.timeout / 1000
    local discovery, jwks_uri = "", nil
    if options.discovery_url then
        local kind
        discovery, jwks_uri, kind = request_discovery(options, deadline)
        if not discovery then
            return nil, jwks_uri, kind
        end
    end

    local sets, sizes = {}, {}
    if options.needs_keys then
        local target = options.jwks_endpoint or jwks_uri
        if target == "" then
            return nil, printable(options.discovery_url) .. ": discovery document: no 'jwks_uri' in it"
        end

        local origin = options.jwks_endpoint and http.OPERATOR or origin_of(options, target)
        local keys, err, kind = request_keys(options, deadline, target, origin)
        if not keys then
            return nil, err, kind
        end

        sets[1], sizes[1] = keys, #keys
        for extra in options.extra_jwks_uris:gmatch("[^\n]+") do
            keys, err, kind = request_keys(options, deadline, extra, http.OPERATOR)
            if not keys then
                return nil, err, kind
            end

            sets[#sets + 1], sizes[#sizes + 1] = keys, #keys
        end
    end

    return ngx_time() .. ":" .. #discovery .. ":" .. concat(sizes, ",") .. ":" .. discovery .. concat(sets)
end


-- When documents were fetched, in seconds since the epoch; 0 for none, and for a time in the future: the
-- clock was set back since then, so their age is not known.
local function time_of(value)
    local time = value and tonumber(value:match("^%d+")) or 0

    return time <= ngx_time() + CLOCK_TOLERANCE and time or 0
end


-- The last documents that some worker fetched, or nil.
local function shared_documents(options, dict)
    local shared = ngx.shared[dict]
    local key = options.key .. ":last"
    local value = shared and shared:get(key)

    return time_of(value) > 0 and value or time_of(worker_documents[key]) > 0 and worker_documents[key] or nil
end


-- Which documents of these options the engine has; nil, and true if their time is in the future.
local function in_use(options)
    local used = documents_in_use[options.key]
    if used and used.time > ngx_time() + CLOCK_TOLERANCE then
        documents_in_use[options.key] = nil

        return nil, true
    end

    return used
end


-- The newest documents, which are requested unless another request just did so; or nil, an error and its
-- kind.
local function fetch_documents(options, dict)
    local opts = { host = options.issuer, options = options.documents_scope, timeout = options.timeout }
    local value, err, kind = shared_cache.get(dict, options.key, opts, function()
        local documents, why, what = request_documents(options)
        if not documents then
            return nil, why, what
        end

        -- With a longer lifetime, the renewal after ten minutes would find these documents again.
        return documents, min(options.rediscovery_lifetime, MAX_AGE / 2)
    end)
    if not value then
        return nil, err, kind
    end

    -- The key is that of the options they were fetched with, since another policy may be in force by now.
    local key = options.key .. ":last"
    if time_of(value) > time_of(shared_documents(options, dict)) then
        local shared = ngx.shared[dict]
        -- Not set(), which may evict values that are needed (see shared_cache.lua).
        if not shared or not shared:safe_set(key, value, MAX_STALE) then
            worker_documents[key] = value
        end
    end

    return value
end


-- Gives documents to the engine, for the options of this plan in the policy in force. true, or nil and an
-- error.
local function set_documents(engine, plan, options, value)
    local time, size, list, rest = value:match("^(%d+):(%d+):([%d,]*):(.*)$")
    size = tonumber(size)
    local discovery, keys = rest:sub(1, size), rest:sub(size + 1)
    local sets, sizes = 0, {}
    for length in list:gmatch("%d+") do
        sets = sets + 1
        sizes[sets] = tonumber(length)
    end

    local lengths = ffi.new("uint32_t[?]", sets, sizes)
    local ok, err = library.try("documents of " .. options.issuer, function(message)
        return C.rmtls_engine_set_issuer_documents(engine.handle, plan, options.discovery_url and discovery or nil,
                                                   #discovery, keys, lengths, sets, message)
    end)
    if not ok then
        return nil, err
    end

    local now = ngx_time()
    documents_in_use[options.key] = { time = tonumber(time), next_check = now + CHECK_INTERVAL, set_at = now }

    return true
end


local function refresh(premature, options, dict)
    if premature then
        return
    end

    local value, err = fetch_documents(options, dict)
    if not value then
        ngx_log(ngx.WARN, "[mtls] the issuer's documents could not be renewed, the previous ones stay in use: ", err)
    end
end


-- Checks every CHECK_INTERVAL seconds whether another worker has newer documents, and starts their renewal
-- when they are old. false when those in use are too old.
local function check_documents(engine, plan, options, dict)
    local used, clock_was_set_back = in_use(options)
    local now = ngx_time()
    if not used then
        return not clock_was_set_back
    end

    if now < used.next_check and now >= used.next_check - CHECK_INTERVAL then
        return now < used.time + MAX_STALE
    end

    used.next_check = now + CHECK_INTERVAL
    local value = shared_documents(options, dict)
    if time_of(value) > used.time then
        local ok, err = set_documents(engine, plan, options, value)
        if not ok then
            ngx_log(ngx.WARN, "[mtls] ", err)
        end

    elseif now >= used.time + MAX_STALE then
        return false

    elseif now >= used.time + MAX_AGE then
        local ok, err = ngx.timer.at(0, refresh, options, dict)
        if not ok then
            shortage.report_timer("no timer to renew the issuer's documents: ", err)
        end
    end

    return true
end


-- Gets documents for a worker that has none, or newer ones for a key that is not among them. true; or nil,
-- an error and its kind when there are none at all, or when this machine lacks something to look for newer
-- ones. A third result of 0 beside true: they are those of another worker, and there may be newer ones.
--
-- Yields. Afterwards the engine gets nothing if the policy of `epoch` is not in force any more: under the
-- new one, the plan may require that the issuer's server is verified, which was not done for these.
local function load_documents(engine, plan, options, dict, epoch)
    local used = in_use(options)
    local shared = shared_documents(options, dict)
    local known_time = used and used.time or ngx_time() - MAX_AGE
    -- Another worker may have fetched documents already; they need not be the newest.
    if time_of(shared) > known_time and set_documents(engine, plan, options, shared) then
        return true, nil, 0
    end

    local value, err, kind = fetch_documents(options, dict)
    if C.rmtls_engine_epoch(engine.handle) ~= epoch then
        return nil, "another policy came into force", shared_cache.SUPERSEDED
    end

    if kind then
        return nil, err, kind
    end

    local ok
    if value and used and time_of(value) == used.time then
        -- These are the documents in use. The engine may have dropped them in favour of others.
        if used.set_at < ngx_time() then
            set_documents(engine, plan, options, value)
        end

        return true
    end

    if value then
        ok, err = set_documents(engine, plan, options, value)
        if ok then
            return true
        end
    end

    ngx_log(ngx.WARN, "[mtls] ", err)
    if used and ngx_time() < used.time + MAX_STALE then
        return true
    end

    if shared and ngx_time() < time_of(shared) + MAX_STALE and set_documents(engine, plan, options, shared) then
        return true
    end

    return nil, err
end


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


-- The introspection response for the token of this request, or nil, an error and its kind. Yields.
local function introspect(engine, plan, options, dict, token)
    local endpoint = token_options.text_of(engine, plan, CONST.TOKEN_TEXT_INTROSPECTION_ENDPOINT)
    if not endpoint then
        return nil, options.issuer .. " names no introspection endpoint"
    end

    local body = "token=" .. ngx.escape_uri(token) .. "&token_type_hint=access_token"
    local lines = {}
    if options.client_auth == CONST.CLIENT_AUTH_BASIC then
        lines.Authorization = "Basic " .. ngx.encode_base64(ngx.escape_uri(options.client_id) .. ":"
                                                            .. ngx.escape_uri(options.client_secret or ""))
    else
        body = body .. "&client_id=" .. ngx.escape_uri(options.client_id)
        if options.client_auth == CONST.CLIENT_AUTH_PRIVATE_KEY then
            local assertion, err = library.read("client assertion", function(out)
                return C.rmtls_engine_client_assertion(engine.handle, plan, ngx_time(), out)
            end)
            if not assertion then
                return nil, err or "no key for a client assertion"
            end

            body = body .. "&client_assertion_type=" .. ngx.escape_uri(JWT_BEARER) .. "&client_assertion=" .. assertion

        elseif options.client_auth == CONST.CLIENT_AUTH_POST then
            body = body .. "&client_secret=" .. ngx.escape_uri(options.client_secret or "")
        end
    end

    local failure_scope = options.failure_scope
    local certificate
    if options.client_auth == CONST.CLIENT_AUTH_TLS then
        if endpoint:sub(1, 8) ~= "https://" then
            return nil, printable(endpoint) .. ": expected https for tls_client_auth"
        end

        certificate = options.client_certificate
        if not certificate then
            local err
            certificate, err = token_client_certificate.read(engine, plan)
            if not certificate then
                return nil, err
            end

            options.client_certificate = certificate
        end

        -- A server that refuses this certificate may accept another one.
        failure_scope = failure_scope .. tostring(options.introspection_ssl_verify) .. " " .. certificate.digest .. " "
    end

    -- The id is a digest of the token and of all options on which the response depends.
    local key = options.scope .. "introspection:" .. ngx.encode_base64(ffi.string(result.id, 32))
    local opts = { host = endpoint, options = failure_scope, timeout = options.timeout }
    local value, err, kind = shared_cache.get(dict, key, opts, function()
        local found, why, what, unusable = http.request {
            url = endpoint,
            origin = origin_of(options, endpoint),
            method = "POST",
            body = body,
            content_type = "application/x-www-form-urlencoded",
            headers = lines,
            accept = "application/json",
            gzip = true,
            max_bytes = MAX_DOCUMENT,
            ssl_verify = options.introspection_ssl_verify,
            client_certificate = certificate,
            timeout = options.timeout,
            kind = "token",
        }
        -- Not a failure of the host: other tokens must still be introspected.
        if unusable and not what then
            return why, 0
        end

        if not found then
            return nil, why, what
        end

        -- Some servers send 201 to every POST.
        if found.status ~= 200 and found.status ~= 201 then
            return "status " .. found.status, 0
        end

        return "200:" .. found.body, INTROSPECTION_TTL
    end)
    if not value then
        return nil, err, kind
    end

    if value:sub(1, 4) ~= "200:" then
        return nil, endpoint .. ": " .. value
    end

    return value:sub(5)
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


-- The header lines for the claims of the token, an rmtls_lines that is valid until the next decision; nil for a request
-- without a valid token.
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

    if claims_are_new[0] == 1 then
        upstream_headers.log_left_out(claims)
    end

    return claims
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
        documents_in_use, worker_documents = {}, {}
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
    if request.authorization.count > 0 and not check_documents(engine, plan, options, dict) then
        local ok, err, kind = load_documents(engine, plan, options, dict, epoch)
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
            local ok, err, detail = load_documents(engine, plan, options, dict, epoch)
            if not ok and detail ~= shared_cache.SUPERSEDED then
                return nil, unavailable(err, detail)
            end

            latest = ok and detail or 1

        elseif decision == NEEDS_INTROSPECTION then
            local _, token = scheme_and_token(request)
            local found, err, kind = introspect(engine, plan, options, dict, token)
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

                return current and band(engine:plan_flags(current), CONST.PLAN_TOKEN) ~= 0
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
function _M.set_credentials(engine, plan)
    local options = options_of(engine, plan)
    local request = request_headers.of_request(options.token_header)
    local hide = options.hide_credentials or token_identity.is_without(request)
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
