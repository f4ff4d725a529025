-- Client certificates (mTLS) for nginx with lua-nginx-module and for OpenResty.
--
--     local mtls = require "resty.mtls"
--     mtls.init { policy = "/etc/nginx/mtls/policy.yaml" }    -- init_by_lua*
--     mtls.client_hello()                                     -- ssl_client_hello_by_lua*, http{} level
--     mtls.certificate()                                      -- ssl_certificate_by_lua*
--     mtls.access("payments")                                 -- rewrite_by_lua* or access_by_lua*
--     mtls.log()                                              -- log_by_lua*

local access = require "resty.mtls.internal.access"
local blocks = require "resty.mtls.internal.blocks"
local bundles = require "resty.mtls.internal.bundles"
local cidr = require "resty.mtls.internal.net.cidr"
local client = require "resty.mtls.internal.client"
local connection = require "resty.mtls.internal.connection"
local crl_updates = require "resty.mtls.internal.crl_updates"
local engine = require "resty.mtls.internal.engine"
local fleet = require "resty.mtls.internal.fleet"
local http = require "resty.mtls.internal.net.http"
local init_options = require "resty.mtls.internal.init_options"
local request_headers = require "resty.mtls.internal.request_headers"
local library = require "resty.mtls.internal.library"
local metrics = require "resty.mtls.internal.metrics"
local metrics_output = require "resty.mtls.internal.metrics_output"
local operator_api = require "resty.mtls.internal.operator_api"
local placement = require "resty.mtls.internal.placement"
local refusal = require "resty.mtls.internal.refusal"
local reload = require "resty.mtls.internal.reload"
local revocation = require "resty.mtls.internal.revocation"
local revocation_sources = require "resty.mtls.internal.revocation_sources"
local reserved_headers = require "resty.mtls.internal.reserved_headers"
local token_client_certificate = require "resty.mtls.internal.token_client_certificate"
local token_issuer = require "resty.mtls.internal.token_issuer"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local error = error
local ngx_log = ngx.log
local type = type

local ERR = ngx.ERR
local WARN = ngx.WARN

-- Functions of other modules that each request needs, see internal/access.lua.
local await_first_sync = fleet.await_first_sync
local await_policy = reload.await_policy
local current_engine = engine.current
local ensure_bundles = bundles.ensure_running
local is_unavailable = fleet.is_unavailable
local run_access = access.run
local start_crl_updates = crl_updates.start


local _M = {
    _VERSION = library._VERSION,
}


-- How many warnings, CRLs and lists status() lists.
local MAX_WARNINGS = 100
local MAX_CRLS = 1000
local MAX_LISTS = 1000
-- The bounds of certificate_spool by default.
local MAX_SPOOL_CERTIFICATES = 10000
local MAX_SPOOL_BYTES = 64 * 1024 * 1024
-- Seconds between two checks of the policy files.
local WATCH_INTERVAL = 1

local options
local shared_dict = "mtls"
-- What init() found wrong in nginx.conf and the files of the policy.
local start_warnings = {}
local errbuf = library.buffer(1024)


local function source_of(policy, caller)
    if type(policy) == "string" then
        return { path = policy }
    end

    -- A list of files, as the library takes it.
    if policy[1] ~= nil then
        return { path = table.concat(policy, "\0") }
    end

    local found, cjson = pcall(require, "cjson.safe")
    if not found then
        error("mtls." .. caller .. ": a policy given as a table needs lua-cjson", 3)
    end

    local document, err = cjson.encode(policy)
    if not document then
        error("mtls." .. caller .. ": the policy table cannot be encoded: " .. err, 3)
    end

    return { document = document, label = "policy table" }
end


local function log_warnings(current)
    for _, warning in ipairs(current:warnings(request_headers.has_trusted_peers())) do
        ngx_log(WARN, "[mtls] ", warning)
    end
end


-- Raises an error that stops the start.
local function must(ok, err)
    if not ok then
        error("[mtls] " .. err, 0)
    end
end


-- init_by_lua*. Raises when the policy is invalid, which stops the start; on HUP, the old workers stay.
function _M.init(opts)
    if ngx.get_phase() ~= "init" then
        error("mtls.init: call it in init_by_lua*, and mtls.reload later", 2)
    end

    local wrong = opts == _M and "called with ':', expected mtls.init { ... }" or init_options.check(opts)
    if wrong then
        error("mtls.init: " .. wrong, 2)
    end

    local current = assert(engine.new())
    local ok, err = current:join_node()
    if not ok then
        ngx_log(ERR, "[mtls] ", err, "; a worker that starts later may serve an older policy than the others")
    end

    local source = source_of(opts.policy, "init")
    if opts.state_dir then
        must(current:set_state_directory(opts.state_dir, source.path or source.label))
    end

    if opts.certificate_spool then
        local spool = opts.certificate_spool
        spool = type(spool) == "table" and spool or { directory = spool }
        must(current:set_certificate_spool(spool.directory, spool.max_certificates or MAX_SPOOL_CERTIFICATES,
                                           spool.max_bytes or MAX_SPOOL_BYTES))
    end

    ok, err = current:load(source)
    if not ok and opts.state_dir then
        local found, why = current:load_last_good()
        ngx_log(ERR, "[mtls] policy not loaded: ", reload.first_line(err), found
                and "; the last good one of state_dir is in force" or "; no last good one: " .. why)
        ok = found
    end

    if not ok then
        must(false, reload.first_line(err))
    end

    local unsupported = token_client_certificate.unsupported(current)
    must(not unsupported, unsupported)
    current:install()
    current:watch(opts.watch == nil and WATCH_INTERVAL or opts.watch)
    options = opts
    shared_dict = opts.shared_dict or "mtls"
    http.init { allow = cidr.parse(opts.fetch_allow or {}) }
    request_headers.init { trusted = cidr.parse(opts.trusted_ips or {}, true) }
    -- The trace of access() for a known client has some 600 constants, and LuaJIT gives up at 500 by default: parts of
    -- it would be interpreted for each request. Fails where LuaJIT was built without its compiler.
    pcall(jit.opt.start, "maxirconst=1000")
    refusal.init(opts.refusals)
    metrics.init(opts.shared_dict)
    bundles.init(shared_dict)
    crl_updates.init(shared_dict, opts.state_dir)
    fleet.init(opts.redis, shared_dict, opts.state_dir)
    revocation.init()
    revocation_sources.init(shared_dict)
    log_warnings(current)

    local status = current:status()
    local requests_certificates = status and status.counts.certificate_requests > 0
    local faults, warnings, shares_sessions = placement.check(requests_certificates, current)
    local tickets = opts.session_tickets
    if tickets == nil or tickets == "auto" then
        tickets = shares_sessions
    end

    C.rmtls_engine_use_session_cache(current.handle, tickets and 0 or 1)
    start_warnings = {}
    for level, lines in pairs { [ERR] = faults, [WARN] = warnings } do
        for _, line in ipairs(lines) do
            ngx_log(level, "[mtls] ", line)
            start_warnings[#start_warnings + 1] = line
        end
    end
end


-- init_worker_by_lua*: with the option redis, makes a node that has no requests follow its fleet too; and fetches
-- bundles of trust domains before the first request.
function _M.init_worker()
    fleet.ensure_running()
    bundles.ensure_running(engine.current())
end


-- ssl_client_hello_by_lua*, at http{} level: runs on resumption too. Never fails the handshake.
function _M.client_hello()
    local current = engine.current_for_handshake()
    reload.ensure_watched(current)
    fleet.ensure_running()
    bundles.ensure_running(current)
    local name = connection.server_name()
    errbuf.len = 0
    local status = C.rmtls_engine_client_hello(current.handle, connection.ssl(), name,
                                               name and #name or 0, errbuf)
    if status ~= OK then
        ngx_log(ERR, "[mtls] ", select(2, library.failure("client_hello", status, errbuf)))
        metrics.count("handshake_errors_total", "client_hello")
    end

    crl_updates.start(current)
    metrics.start_timer()
end


-- ssl_certificate_by_lua*: requests a client certificate if the policy has it for this server name. Never
-- fails the handshake, and does not change the server's own certificate.
function _M.certificate()
    local current = engine.current_for_handshake()
    errbuf.len = 0
    local status = C.rmtls_engine_request_certificate(current.handle, connection.ssl(), errbuf)
    if status ~= OK and status ~= NOT_FOUND then
        ngx_log(ERR, "[mtls] ", select(2, library.failure("certificate", status, errbuf)))
        metrics.count("handshake_errors_total", "certificate")
    end
end


-- Checks the argument of a function that decides, and waits for what every decision needs. Returns the engine, and why
-- nothing can be decided yet, if so.
local function prepare(caller, route)
    if route ~= nil and type(route) ~= "string" then
        error("mtls." .. caller .. ": route must be a string, got " .. type(route), 3)
    end

    local current = current_engine()
    await_policy(current)
    ensure_bundles(current)
    start_crl_updates(current)
    await_first_sync()

    return current, is_unavailable() and "there was no sync with Redis yet (redis.required)" or nil
end


-- rewrite_by_lua* or access_by_lua*: route is the name of a route of the policy; without it only global plugins apply.
-- Ends the request itself on a refusal: 401 or 403; 421 on a connection whose certificate request was that of another
-- name; 503 when the issuer of access tokens does not answer. A second call for the same route does nothing.
function _M.access(route)
    local current, why = prepare("access", route)

    return run_access(current, route, shared_dict, why)
end


-- rewrite_by_lua* or access_by_lua*: decides as access() does, but ends nothing and sets no upstream header. Returns
-- { allowed, status, body, headers, decision, reason, verdict, consumer }; headers is a list of { name, value }: those
-- for the upstream when the request is allowed, else those of the response.
function _M.decide(route)
    local current, why = prepare("decide", route)

    return access.decide(current, route, shared_dict, why)
end


-- rewrite_by_lua*: removes reserved headers, as access() does, but before "satisfy", subrequests of
-- auth_request and whatever else nginx runs before or instead of the access phase.
function _M.strip()
    return reserved_headers.remove(engine.current())
end


-- access_by_lua* and later: the client, or nil when it presented no certificate.
function _M.client()
    return client.of_request(engine.current())
end


-- Puts another policy in force: in this worker, and in the others of this nginx at the next run of their
-- watch. A path, a table, or nil for the one of init again. true; or nil and the errors, and the previous
-- policy stays in force. Yields while the policy is compiled, in phases that can; blocks the worker in others.
function _M.reload(policy)
    local current = engine.current()
    policy = policy or options and options.policy
    if not policy then
        error("mtls.reload: no policy given, and mtls.init was not called in this Lua VM", 2)
    end

    if type(policy) ~= "string" and type(policy) ~= "table" then
        error("mtls.reload: policy must be a path, a list of paths or a table, got " .. type(policy), 2)
    end

    return reload.run(current, source_of(policy, "reload"))
end


-- The longest time of a block, in seconds: 100 years.
local MAX_SECONDS = 100 * 366 * 86400
local BLOCK_FIELDS = {
    sha256 = true, spki_sha256 = true, serial = true, issuer_dn = true, seconds = true, reason = true,
}


-- The fields that select certificates; or nil and an error. A misspelt `seconds` must not make a block without an end.
local function selector_options(opts, caller)
    if type(opts) ~= "table" then
        error("mtls." .. caller .. ": expected a table, got " .. type(opts), 3)
    end

    for name in pairs(opts) do
        -- unblock() takes an entry of blocked() as it is.
        if not BLOCK_FIELDS[name] and not (caller == "unblock" and (name == "added" or name == "until_")) then
            return nil, "unknown field '" .. tostring(name):gsub("%c", "?"):sub(1, 64)
                        .. "', expected sha256, spki_sha256, serial, issuer_dn, seconds or reason"
        end
    end

    return { sha256 = opts.sha256, spki_sha256 = opts.spki_sha256, serial = opts.serial, issuer_dn = opts.issuer_dn }
end


-- Refuses a certificate on all workers of this nginx, from the next request on, also on connections that are open.
-- { sha256 = "..." }, { spki_sha256 = "..." } or { serial = "...", issuer_dn = "..." }; seconds: for how long, without
-- it until unblock(); reason: text for the log. true, or nil and an error.
function _M.block(opts)
    local record, err = selector_options(opts, "block")
    if not record then
        return nil, err
    end

    local seconds = opts.seconds
    if seconds ~= nil then
        if type(seconds) ~= "number" or not (seconds >= 1 and seconds <= MAX_SECONDS) then
            return nil, "seconds: expected a number of at least 1"
        end

        record.until_ = ngx.time() + math.ceil(seconds)
    end

    record.reason = opts.reason

    return blocks.add(record)
end


-- Ends a block. true; nil when there is none of this selector; nil and an error.
function _M.unblock(opts)
    local record, err = selector_options(opts, "unblock")
    if not record then
        return nil, err
    end

    return blocks.remove(record)
end


-- The blocks in force: { { sha256 = "...", added = 1, until_ = 2, reason = "..." }, ... }, in seconds since 1970.
function _M.blocked()
    return blocks.list()
end


-- content_by_lua*: the HTTP API of the blocks, for this machine only.
function _M.serve_blocks()
    return operator_api.blocks(_M.block, _M.unblock)
end


-- Forgets what was fetched: revocation statuses, introspection responses and documents of issuers. In this worker at
-- once, in the others of this nginx within a second. Not that certificates are revoked.
function _M.flush()
    revocation.flush(shared_dict)
    token_issuer.flush(shared_dict)
    ngx_log(ngx.NOTICE, "[mtls] flushed")
end


-- content_by_lua*: flush() over HTTP, for this machine only.
function _M.serve_flush()
    return operator_api.flush(_M.flush)
end


-- content_by_lua*: a page for the operator in HTML, for this machine only.
function _M.serve_page()
    return operator_api.page()
end


-- content_by_lua*: routes and server names of the policy as JSON, for this machine only.
function _M.serve_policy()
    return operator_api.policy()
end


-- content_by_lua*: status() as JSON, for this machine only.
function _M.serve_status()
    return operator_api.status(_M.status)
end


-- content_by_lua*: metrics(), for Prometheus.
function _M.serve_metrics()
    return operator_api.metrics(_M.metrics)
end


-- log_by_lua*: counts the responses to requests that access() decided about.
function _M.log()
    local route = client.route()
    if route then
        metrics.count_response(route, ngx.status)
    end
end


-- The metrics of all workers, in the text format of Prometheus.
function _M.metrics()
    reload.ensure_watched(engine.current())

    return metrics_output.text()
end


-- { version, worker, epoch, since, digest, counts = { routes, server_names, certificate_requests, warnings }, warnings,
-- start_warnings, last_error, node = { epoch, since, workers = { { worker, pid, epoch, since, failed }, ... } },
-- fleet = { connected, last_sync, error, blocks }, metrics, certificates = { { consumer, not_after }, ... },
-- certificate_spool = { certificates, bytes }, crls, lists, revocation_sources }
function _M.status()
    local current = engine.current()
    reload.ensure_watched(current)
    crl_updates.start(current)
    local status = current:status() or {}
    status.version = _M._VERSION
    status.worker = ngx.worker.id()
    status.last_error = current:last_error()
    -- Not cached, since another policy may be in force by now.
    status.warnings = current:warnings(request_headers.has_trusted_peers(), MAX_WARNINGS)
    status.start_warnings = start_warnings[1] and start_warnings
    status.node = current:node()
    status.fleet = fleet.status()
    status.metrics = metrics_output.table()
    status.certificates = metrics.ends()
    status.certificate_spool = current:certificate_spool()
    local lists = current:lists(MAX_LISTS)
    status.lists = lists[1] and lists
    local crls = current:crls(MAX_CRLS)
    status.crls = crls[1] and crls
    status.revocation_sources = revocation_sources.list(crl_updates.urls())

    return status
end


return _M
