-- The documents of an issuer of access tokens: the discovery document unless all URLs are configured, and the keys.
--
-- They are shared between workers. They are renewed every ten minutes; if the issuer does not answer, the previous ones
-- stay in use for a day. For a token whose key is not among them they are renewed at once, but at most once in
-- rediscovery_lifetime seconds.

local ffi = require "ffi"
local http = require "resty.mtls.internal.net.http"
local library = require "resty.mtls.internal.library"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local shortage = require "resty.mtls.internal.shortage"
local token_options = require "resty.mtls.internal.token_options"
local url = require "resty.mtls.internal.net.url"


local C = library.C
local concat = table.concat
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_time = ngx.time
local origin_of = token_options.origin_of

local WARN = ngx.WARN

-- Bytes of a discovery document, and of a JWK Set.
local MAX_DOCUMENT = 262144
local MAX_KEYS = 1048576
-- Seconds after which documents are renewed.
local MAX_AGE = 600
-- Seconds for which documents are used that cannot be renewed.
local MAX_STALE = 86400
-- Seconds between two checks of a worker whether there are newer documents.
local CHECK_INTERVAL = 10
-- What the cached times of two workers may differ by, in seconds.
local CLOCK_TOLERANCE = 1


local _M = {}

local number = ffi.new("uint32_t[1]")
-- The documents that the engine has, by key of their options: { time, next_check, set_at }, where time is
-- when they were fetched.
local documents_in_use = {}
-- Documents that did not fit into the shared dictionary.
local worker_documents = {}


-- The body of a document, or nil, an error and its kind.
local function get_document(options, deadline, target, max_bytes, origin)
    local left = math.floor((deadline - ngx_now()) * 1000)
    if left < 1 then
        return nil, url.without_query(target) .. ": timeout"
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
        return nil, url.without_query(target) .. ": status " .. found.status
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
        return nil, url.without_query(target) .. ": discovery document: "
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
    ok, err = library.try(url.without_query(target), function(text)
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
            return nil, url.without_query(options.discovery_url) .. ": discovery document: no 'jwks_uri' in it"
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
        return documents, math.min(options.rediscovery_lifetime, MAX_AGE / 2)
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
        ngx_log(WARN, "[mtls] the issuer's documents could not be renewed, the previous ones stay in use: ", err)
    end
end


-- Checks every CHECK_INTERVAL seconds whether another worker has newer documents, and starts their renewal
-- when they are old. false when those in use are too old.
function _M.check(engine, plan, options, dict)
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
            ngx_log(WARN, "[mtls] ", err)
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
function _M.load(engine, plan, options, dict, epoch)
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

    if value and used and time_of(value) == used.time then
        -- These are the documents in use. The engine may have dropped them in favour of others.
        if used.set_at < ngx_time() then
            set_documents(engine, plan, options, value)
        end

        return true
    end

    if value then
        local ok
        ok, err = set_documents(engine, plan, options, value)
        if ok then
            return true
        end
    end

    ngx_log(WARN, "[mtls] ", err)
    if used and ngx_time() < used.time + MAX_STALE then
        return true
    end

    if shared and ngx_time() < time_of(shared) + MAX_STALE and set_documents(engine, plan, options, shared) then
        return true
    end

    return nil, err
end


-- Forgets the documents of this worker.
function _M.forget()
    documents_in_use, worker_documents = {}, {}
end


return _M
