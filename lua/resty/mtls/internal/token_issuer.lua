-- Access tokens: asks the engine, and fetches for it what the issuer says: its discovery document,
-- its keys, and what it knows of a token.
--
-- The documents of an issuer are shared between workers. They are looked at again every ten
-- minutes, while those before serve on, for a day if the issuer is down; and at once for a key that
-- is not among them, at most once in rediscovery_lifetime seconds.

local ffi = require "ffi"
local http = require "resty.mtls.internal.net.http"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local upstream_headers = require "resty.mtls.internal.upstream_headers"
local request_headers = require "resty.mtls.internal.request_headers"
local library = require "resty.mtls.internal.library"
local cache = require "resty.mtls.internal.decision_cache"
local revocation = require "resty.mtls.internal.revocation"
local shortage = require "resty.mtls.internal.shortage"
local url = require "resty.mtls.internal.net.url"
local STATUS = require "resty.mtls.internal.cdef"


local C = library.C
local OK = STATUS.OK
local PASS = STATUS.BEARER_PASS
local NO_TOKEN = STATUS.BEARER_NO_TOKEN
local REFUSED = STATUS.BEARER_REFUSED
local FORBIDDEN = STATUS.BEARER_FORBIDDEN
local NEEDS_KEYS = STATUS.BEARER_NEEDS_KEYS
local NEEDS_INTROSPECTION = STATUS.BEARER_NEEDS_INTROSPECTION
local NO_PLAN = 0xffffffff
local JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
local band = bit.band
local error = error
local floor = math.floor
local min = math.min
local ngx = ngx
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_time = ngx.time
local tonumber = tonumber


local MAX_DOCUMENT = 262144
-- Seconds: when newer documents are looked for, how long old ones serve without any, and how often
-- a worker looks.
local MAX_AGE = 600
-- What the cached times of two workers may differ by, in seconds.
local LAG = 1
local MAX_STALE = 86400
local LOOK = 10
-- Answers about a token are shared for so long by those who ask at the same time.
local SHARED = 1
-- Keys, introspection, revocation, each at most twice.
local MAX_ROUNDS = 6


local answer = ffi.new("rmtls_bearer_answer")
local number = ffi.new("uint32_t[1]")
local description = library.buffer(256)
local reason = library.buffer(4096)

-- By issuer: { time = of its documents, look_at = seconds }
local states = {}
-- What the shared dictionary does not take.
local own = {}


local _M = {}


-- How the tokens of a plan are looked at.
local function options_of(engine, plan)
    local options = engine.bearers[plan]
    if options then
        return options
    end

    local read = ffi.new("rmtls_bearer_options")
    if C.rmtls_engine_bearer_options(engine.handle, plan, read) ~= OK then
        error("the plan wants no token")
    end

    local function text(field)
        return (library.read("bearer", function(out)
            return C.rmtls_engine_bearer_text(engine.handle, plan, field, out)
        end))
    end

    local issuer = text(STATUS.BEARER_ISSUER)
    options = {
        issuer = issuer,
        key = http.cache_scope() .. "oidc:" .. read.needs_keys .. read.ssl_verify .. ":" .. issuer,
        -- What tells apart failures at the same URL.
        way = http.cache_scope() .. read.ssl_verify .. " " .. tonumber(read.timeout) .. " ",
        needs_keys = read.needs_keys == 1,
        client_auth = read.client_auth,
        client_id = text(STATUS.BEARER_CLIENT_ID),
        client_secret = text(STATUS.BEARER_CLIENT_SECRET),
        own_endpoint = text(STATUS.BEARER_OWN_ENDPOINT),
        unauthorized = text(STATUS.BEARER_UNAUTHORIZED),
        forbidden = text(STATUS.BEARER_FORBIDDEN_TEXT),
        hide_credentials = read.hide_credentials == 1,
        expose_error_code = read.expose_error_code == 1,
        ssl_verify = read.ssl_verify == 1,
        timeout = tonumber(read.timeout),
        rediscovery_lifetime = tonumber(read.rediscovery_lifetime),
        certificate_plan = tonumber(read.certificate_plan),
    }
    engine.bearers[plan] = options

    return options
end
_M.options_of = options_of


-- A URL that the issuer wrote may lead where the operator's own URLs lead.
local function origin_of(options, target)
    local own_url = url.same_origin(options.issuer, target)
                    or options.own_endpoint and url.same_origin(options.own_endpoint, target)

    return own_url and "operator" or "certificate"
end


-- The body, or nil, an error and its kind.
local function get(options, deadline, target)
    local left = floor((deadline - ngx_now()) * 1000)
    if left < 1 then
        return nil, target .. ": timeout"
    end

    local found, err, kind = http.request {
        url = target,
        origin = origin_of(options, target),
        accept = "application/json",
        max_bytes = MAX_DOCUMENT,
        ssl_verify = options.ssl_verify,
        timeout = left,
        kind = "oidc",
    }
    if found and found.status ~= 200 then
        return nil, target .. ": status " .. found.status
    end

    return found and found.body, err, kind
end


-- "time:length:discovery document, keys" fetched anew, or nil, an error and its kind.
local function fetch_documents(options)
    local deadline = ngx_now() + options.timeout / 1000
    local target = options.issuer:gsub("/$", "") .. "/.well-known/openid-configuration"
    local discovery, err, kind = get(options, deadline, target)
    if not discovery then
        return nil, err, kind
    end

    local message = library.buffer(1024)
    local jwks_uri, introspection = library.read("discovery", function(a, b)
        return C.rmtls_discovery_read(discovery, #discovery, options.issuer, #options.issuer, a, b, message)
    end, true)
    if not jwks_uri then
        return nil, target .. ": discovery document: "
                    .. (message.len > 0 and library.text(message) or introspection)
    end

    local keys = ""
    if options.needs_keys then
        if jwks_uri == "" then
            return nil, target .. ": discovery document: no 'jwks_uri' in it"
        end

        keys, err, kind = get(options, deadline, jwks_uri)
        if not keys then
            return nil, err, kind
        end

        -- Before it takes the place of what serves.
        local ok
        ok, err = library.try(jwks_uri, function(text)
            return C.rmtls_jwks_check(keys, #keys, number, text)
        end)
        if not ok then
            return nil, err
        end
    end

    return ngx_time() .. ":" .. #discovery .. ":" .. discovery .. keys
end


-- When documents were fetched, in seconds since the epoch; 0 for none, and for those of a time that is
-- yet to come: the clock was set back since, and their age is not known.
local function time_of(value)
    local time = value and tonumber(value:match("^%d+")) or 0

    return time <= ngx_time() + LAG and time or 0
end


local function last_of(options, dict)
    local shared = ngx.shared[dict]
    local key = options.key .. ":last"
    local value = shared and shared:get(key)

    return time_of(value) > 0 and value or time_of(own[key]) > 0 and own[key] or nil
end


-- Which documents of these options the engine has, unless they are of a time that is yet to come.
local function state_of(options)
    local state = states[options.key]
    if state and state.time > ngx_time() + LAG then
        states[options.key] = nil

        return nil, true
    end

    return state
end


-- The newest documents: fetched, unless somebody just did; or nil, an error and its kind.
local function newest(options, dict)
    local value, err, kind = shared_cache.get(dict, options.key, { host = options.issuer, options = options.way,
                                                               timeout = options.timeout }, function()
        local documents, why, what = fetch_documents(options)
        if not documents then
            return nil, why, what
        end

        -- Longer, and the look every ten minutes would find the same again.
        return documents, min(options.rediscovery_lifetime, MAX_AGE / 2)
    end)
    if not value then
        return nil, err, kind
    end

    -- Kept by the options that they were fetched with, whatever policy is in force by now.
    local key = options.key .. ":last"
    if time_of(value) > time_of(last_of(options, dict)) then
        local shared = ngx.shared[dict]
        -- Not set(): what it pushes out may be needed (see shared_cache.lua).
        if not shared or not shared:safe_set(key, value, MAX_STALE) then
            own[key] = value
        end
    end

    return value
end


-- Hands documents to the engine: those of the options of this plan in the policy in force. true, or
-- nil and an error.
local function provide(engine, plan, options, value)
    local time, size, rest = value:match("^(%d+):(%d+):(.*)$")
    size = tonumber(size)
    local discovery, keys = rest:sub(1, size), rest:sub(size + 1)
    local ok, err = library.try("documents of " .. options.issuer, function(message)
        return C.rmtls_engine_provide(engine.handle, plan, discovery, #discovery,
                                      options.needs_keys and keys or nil, #keys, message)
    end)
    if not ok then
        return nil, err
    end

    states[options.key] = { time = tonumber(time), look_at = ngx_time() + LOOK, provided_at = ngx_time() }

    return true
end


local function refresh(premature, options, dict)
    if premature then
        return
    end

    local value, err = newest(options, dict)
    if not value then
        ngx_log(ngx.WARN, "[mtls] the issuer's documents are not renewed, those before serve on: ", err)
    end
end


-- Looks now and then whether there are newer documents. false when those in use are too old.
local function look(engine, plan, options, dict)
    local state, is_void = state_of(options)
    local now = ngx_time()
    if not state then
        return not is_void
    end

    if now < state.look_at and now >= state.look_at - LOOK then
        return now < state.time + MAX_STALE
    end

    state.look_at = now + LOOK
    local value = last_of(options, dict)
    if time_of(value) > state.time then
        local ok, err = provide(engine, plan, options, value)
        if not ok then
            ngx_log(ngx.WARN, "[mtls] ", err)
        end

    elseif now >= state.time + MAX_STALE then
        return false

    elseif now >= state.time + MAX_AGE then
        local ok, err = ngx.timer.at(0, refresh, options, dict)
        if not ok then
            shortage.report_timer("no timer to renew the issuer's documents: ", err)
        end
    end

    return true
end


-- Gets documents for a worker that has none, or newer ones for a key that is not among them. true,
-- or nil and an error when there are none at all, or when this machine could not look for newer ones
-- (with the kind of the error); third 0 when there may be newer ones. Yields; after that it hands the
-- engine nothing if the policy of `epoch` is not in force any more: the plan may be one that verifies
-- the issuer's server, where these documents are from a server that was not verified.
local function load(engine, plan, options, dict, epoch)
    local state = state_of(options)
    local last = last_of(options, dict)
    local known = state and state.time or ngx_time() - MAX_AGE
    -- Another worker may have been faster; whether its documents are the newest is not known.
    if time_of(last) > known and provide(engine, plan, options, last) then
        return true, nil, 0
    end

    local value, err, kind = newest(options, dict)
    if C.rmtls_engine_epoch(engine.handle) ~= epoch then
        return nil, "another policy came into force", shared_cache.SUPERSEDED
    end

    if kind then
        return nil, err, kind
    end

    local ok
    if value and state and time_of(value) == state.time then
        -- Those in use: nobody has fetched since. The engine may have dropped them for others.
        if state.provided_at < ngx_time() then
            provide(engine, plan, options, value)
        end

        return true
    end

    if value then
        ok, err = provide(engine, plan, options, value)
        if ok then
            return true
        end
    end

    ngx_log(ngx.WARN, "[mtls] ", err)
    if state and ngx_time() < state.time + MAX_STALE then
        return true
    end

    if last and ngx_time() < time_of(last) + MAX_STALE and provide(engine, plan, options, last) then
        return true
    end

    return nil, err
end


local function escape(text)
    return ngx.escape_uri(text)
end


local function hex(bytes, len)
    local digits = {}
    for i = 0, len - 1 do
        digits[i + 1] = ("%02x"):format(bytes[i])
    end

    return table.concat(digits)
end


-- What the issuer answers about the token of this request, or nil, an error and its kind. Yields.
local function introspect(engine, plan, options, dict, token)
    local endpoint = library.read("bearer", function(out)
        return C.rmtls_engine_bearer_text(engine.handle, plan, STATUS.BEARER_INTROSPECTION_ENDPOINT, out)
    end)
    if not endpoint then
        return nil, options.issuer .. " names no introspection endpoint"
    end

    local body = "token=" .. escape(token) .. "&token_type_hint=access_token"
    local lines = {}
    if options.client_auth == STATUS.CLIENT_BASIC then
        lines.Authorization = "Basic " .. ngx.encode_base64(escape(options.client_id) .. ":"
                                                            .. escape(options.client_secret or ""))
    else
        body = body .. "&client_id=" .. escape(options.client_id)
        if options.client_auth == STATUS.CLIENT_PRIVATE_KEY then
            local assertion, err = library.read("client assertion", function(out)
                return C.rmtls_engine_client_assertion(engine.handle, plan, ngx_time(), out)
            end)
            if not assertion then
                return nil, err or "no key for a client assertion"
            end

            body = body .. "&client_assertion_type=" .. escape(JWT_BEARER) .. "&client_assertion=" .. assertion

        elseif options.client_auth == STATUS.CLIENT_POST then
            body = body .. "&client_secret=" .. escape(options.client_secret or "")
        end
    end

    -- The id is a digest of the token and of all options on which the answer depends.
    local key = http.cache_scope() .. "introspection:" .. hex(answer.id, 32)
    local value, err, kind = shared_cache.get(dict, key, { host = endpoint, options = options.way,
                                                       timeout = options.timeout }, function()
        local found, why, what = http.request {
            url = endpoint,
            origin = origin_of(options, endpoint),
            method = "POST",
            body = body,
            content_type = "application/x-www-form-urlencoded",
            headers = lines,
            accept = "application/json",
            max_bytes = MAX_DOCUMENT,
            ssl_verify = options.ssl_verify,
            timeout = options.timeout,
            kind = "oidc",
        }
        if not found and not what and (why:find("body is over", 1, true) or why:find("redirect", 1, true)) then
            return why, 0
        end

        if not found then
            return nil, why, what
        end

        -- Not a failure of the host: an odd token must not keep others from being asked about.
        if found.status ~= 200 then
            return "status " .. found.status, 0
        end

        return "200:" .. found.body, SHARED
    end)
    if not value then
        return nil, err, kind
    end

    if value:sub(1, 4) ~= "200:" then
        return nil, endpoint .. ": " .. value
    end

    return value:sub(5)
end


local function ask(engine, plan, request, ssl, latest)
    description.len = 0
    reason.len = 0
    local status = C.rmtls_engine_bearer(engine.handle, ssl, plan, request.authorization.array,
                                         request.authorization.count, request.came.array,
                                         request.came.count, request.trusted, latest, ngx_time(),
                                         answer, description, reason)
    if status ~= OK then
        error(select(2, library.failure("bearer", status, reason)))
    end

    return answer.decision
end


local function json(text)
    text = text:gsub('[%z\1-\31"\\]', function(char)
        return ("\\u%04x"):format(char:byte())
    end)

    return '{"message":"' .. text .. '"}'
end


local function challenge(options, code)
    if not code or not options.expose_error_code then
        return "Bearer"
    end

    return 'Bearer error="' .. code .. '", error_description="' .. library.text(description) .. '"'
end


local UNAVAILABLE = {
    status = 503, body = json("Service Unavailable"), decision = "issuer_unavailable",
}


-- kind: of the error, if it is not the issuer's fault.
local function unavailable(err, kind)
    return { status = UNAVAILABLE.status, body = UNAVAILABLE.body, reason = err,
             decision = kind and "unavailable" or UNAVAILABLE.decision }
end
_M.unavailable = unavailable


local function refusal(options, decision)
    local why = library.text(reason)
    if decision == FORBIDDEN then
        return { status = 403, body = json(options.forbidden), decision = "token_forbidden",
                 challenge = challenge(options, "insufficient_scope"), reason = why }
    end

    local none = decision == NO_TOKEN

    return { status = 401, body = json(options.unauthorized), reason = why,
             decision = none and "no_token" or "token_refused",
             challenge = challenge(options, not none and "invalid_token") }
end


-- Header lines for the claims of the token that passed.
local function lines_of(engine, plan)
    local key = plan * cache.OWNERS + cache.TOKENS + answer.token
    local record = cache.get(key)
    if not record or record.number ~= answer.generation then
        record = {
            number = answer.generation,
            lines = upstream_headers.of_request(C.rmtls_engine_claim_lines(engine.handle, plan, answer.token,
                                                                  answer.generation, upstream_headers.out)) or {},
        }
        cache.put(key, record)
        cache.add(record, cache.size_of(record.lines))
    end

    return record.lines
end


-- Decides about the token of this request. nil and the header lines when it passes; a refusal
-- { status, body, challenge, decision, reason }; or false when another policy came into force
-- meanwhile and everything must be decided anew. Yields.
function _M.check(engine, route, plan, ssl, dict)
    local options = options_of(engine, plan)
    local request = request_headers.of_request()
    local epoch = C.rmtls_engine_epoch(engine.handle)
    local latest = 0

    if not look(engine, plan, options, dict) then
        local ok, err, kind = load(engine, plan, options, dict, epoch)
        if not ok and kind ~= shared_cache.SUPERSEDED then
            return unavailable(err, kind)
        end
    end

    for _ = 1, MAX_ROUNDS do
        if C.rmtls_engine_epoch(engine.handle) ~= epoch then
            return false
        end

        local decision = ask(engine, plan, request, ssl, latest)
        if decision == PASS then
            return nil, lines_of(engine, plan)
        end

        if decision == NO_TOKEN or decision == REFUSED or decision == FORBIDDEN then
            return refusal(options, decision)
        end

        if decision == NEEDS_KEYS then
            local ok, err, more = load(engine, plan, options, dict, epoch)
            if not ok and more ~= shared_cache.SUPERSEDED then
                return unavailable(err, more)
            end

            latest = ok and more or 1

        elseif decision == NEEDS_INTROSPECTION then
            local token = request.authorization.values[1]:match("^%S+%s+(%S+)%s*$")
            local found, err, kind = introspect(engine, plan, options, dict, token)
            if C.rmtls_engine_epoch(engine.handle) ~= epoch then
                return false
            end

            if not found then
                return unavailable(err, kind)
            end

            description.len = 0
            reason.len = 0
            local status = C.rmtls_engine_introspected(engine.handle, plan, request.authorization.array,
                                                       request.authorization.count, found, #found,
                                                       ngx_time(), answer, description, reason)
            if status ~= OK then
                return unavailable(select(2, library.failure("introspection", status, reason)))
            end

            if answer.decision ~= PASS then
                return refusal(options, answer.decision)
            end

        else
            local judge = options.certificate_plan
            if judge == NO_PLAN then
                error("nobody judges the certificate of the token")
            end

            local function find()
                local now = engine:plan(route)

                return now and band(engine:traits_of(now), STATUS.TRAIT_BEARER) ~= 0
                       and options_of(engine, now).certificate_plan or nil
            end

            local settled, lacks = revocation.resolve(engine, judge, dict, find, function(out)
                return C.rmtls_engine_presented(engine.handle, ssl, judge, request.came.array,
                                                request.came.count, request.trusted, 1, out)
            end)
            if not settled and lacks then
                return unavailable(lacks, shortage.KIND)
            end
        end
    end

    return unavailable("the token is still not decided about")
end


return _M
