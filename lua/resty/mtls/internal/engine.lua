-- The engine of this worker, with the policy in force, as an object of this Lua VM.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local TOO_SMALL = CONST.TOO_SMALL
local error = error
local epoch_of = C.rmtls_engine_epoch
local tonumber = tonumber

-- INT64_MAX
local NO_TIME = 0x7fffffffffffffffLL
-- For the errors of a policy, one line each.
local POLICY_ERRORS_SIZE = 65536


local _M = {}
local mt = { __index = _M }

local current
local errors


local function wrap(make)
    local handle, status = library.handle("rmtls_engine", make, C.rmtls_engine_free)
    if not handle then
        return nil, status
    end

    -- plans and flags are those of the policy with this epoch.
    return setmetatable({
        handle = handle,
        epoch = 0,
        plans = {},
        flags = {},
        number = ffi.new("uint32_t[1]"),
    }, mt)
end


function _M.new()
    local engine, status = wrap(C.rmtls_engine_new)
    if not engine then
        return library.failure("engine.new", status)
    end

    return engine
end


-- Makes the engine share the policy in force with the other workers of this nginx. Call it before load().
function _M:join_node()
    return library.try("workers", function(message)
        return C.rmtls_engine_join_node(self.handle, message)
    end)
end


-- Keeps the documents in force in a directory for the next start. source: the name of the policy.
function _M:set_state_directory(directory, source)
    return library.try("state_dir", function(message)
        return C.rmtls_engine_set_state_directory(self.handle, directory, #directory, source, #source, message)
    end)
end


-- Loads the documents that were last in force from that directory. true, or nil and an error.
function _M:load_last_good()
    return library.try("state_dir", function(message)
        return C.rmtls_engine_load_last_good(self.handle, message)
    end)
end


-- Writes certificates of clients to a directory, when they are verified for the first time.
function _M:set_certificate_spool(directory, max_certificates, max_bytes)
    return library.try("certificate_spool", function(message)
        return C.rmtls_engine_set_certificate_spool(self.handle, directory, #directory, max_certificates, max_bytes,
                                                    message)
    end)
end


-- { certificates, bytes } in that directory, when this worker last wrote there; nil without one.
function _M:certificate_spool()
    local certificates, bytes = ffi.new("uint64_t[1]"), ffi.new("uint64_t[1]")
    if C.rmtls_engine_certificate_spool_usage(self.handle, certificates, bytes) == OK then
        return { certificates = tonumber(certificates[0]), bytes = tonumber(bytes[0]) }
    end
end


-- Makes this the engine that current() returns in this VM and, through the library, in VMs in which
-- init_by_lua* never ran (lua_code_cache off).
function _M:install()
    C.rmtls_engine_install(self.handle)
    current = self
end


function _M.current()
    if current then
        return current
    end

    local engine, status = wrap(C.rmtls_engine_current)
    if not engine then
        if status == NOT_FOUND then
            error("mtls.init was not called: call it in init_by_lua*", 3)
        end

        error(select(2, library.failure("engine.current", status)), 3)
    end

    current = engine

    return engine
end


-- As current(), for handshakes. With lua_code_cache off, all handshakes of a worker run in one VM, while
-- each request runs in a VM of its own and may install a newer engine.
function _M.current_for_handshake()
    if current and C.rmtls_engine_is_current(current.handle) == NOT_FOUND then
        current = nil
    end

    return _M.current()
end


-- Compiles a policy and puts it in force. source: { path = "..." } or { document = "...", label = "..." }.
-- true, or nil and the errors, one line each; the previous policy then stays in force.
function _M:load(source)
    -- One buffer for all reloads: as garbage of each, it would make a worker grow by megabytes.
    errors = errors or library.buffer(POLICY_ERRORS_SIZE)
    errors.len = 0
    local status
    if source.path then
        status = C.rmtls_engine_load_file(self.handle, source.path, #source.path, errors)
    else
        status = C.rmtls_engine_load(self.handle, source.document, #source.document, source.label,
                                     #source.label, errors)
    end

    if status ~= OK then
        local _, err = library.failure("policy", status, errors)
        return nil, (err:gsub("^policy: ", ""))
    end

    return true
end


-- Drops what was read from the previous policy. Another VM may have put the next one in force.
local function drop_previous_policy(self)
    local epoch = epoch_of(self.handle)
    if epoch ~= self.epoch then
        self.epoch = epoch
        self.plans = {}
        self.flags = {}
    end
end


-- The PLAN_* bits of a plan that was just looked up.
function _M:plan_flags(plan)
    local flags = self.flags[plan]
    if not flags then
        if C.rmtls_engine_plan_flags(self.handle, plan, self.number) ~= OK then
            return 0
        end

        flags = tonumber(self.number[0])
        self.flags[plan] = flags
    end

    return flags
end


-- The table of plans: another one for each policy, so that other modules can see by its identity whether
-- what they have read from the policy is out of date.
function _M:current_plans()
    drop_previous_policy(self)

    return self.plans
end


-- Checks the files of the policy for changes every interval seconds; false: never.
function _M:watch(interval)
    C.rmtls_engine_watch(self.handle, interval and math.ceil(interval * 1000) or 0)
end


-- The errors of the last reload, one line each; nil when it succeeded.
function _M:last_error()
    local message = library.buffer(POLICY_ERRORS_SIZE)
    if C.rmtls_engine_last_error(self.handle, message) == OK then
        return library.text(message)
    end
end


-- Warnings about the policy in force, at most max and then a line with the number of the others.
-- has_trusted_peers: whether trusted_ips is not empty.
function _M:warnings(has_trusted_peers, max)
    max = max or math.huge
    local warnings = {}
    if not has_trusted_peers then
        warnings[1] = library.read("engine.warnings", function(out)
            return C.rmtls_engine_untrusted_source_warning(self.handle, out)
        end)
    end

    for i = 0, math.huge do
        local warning = library.read("engine.warnings", function(out)
            return C.rmtls_engine_warning(self.handle, i, out)
        end)
        if not warning then
            return warnings
        end

        if #warnings == max then
            local more = self:status().counts.warnings - i
            warnings[max + 1] = more .. " more warnings: resty-mtls check lists them"

            return warnings
        end

        warnings[#warnings + 1] = warning
    end
end


-- The CRLs of the policy that are in use, at most max: { { file, issuer, this_update, next_update, entries, bytes },
-- ... }; file may be a URL, and next_update is nil where the CRL has none.
function _M:crls(max)
    local crls, known = {}, {}
    local summary = ffi.new("rmtls_crl_summary")
    for i = 0, max - 1 do
        local file, issuer = library.read("engine.crls", function(a, b)
            return C.rmtls_engine_crl_in_use(self.handle, i, a, b, summary)
        end, true)
        if not file then
            break
        end

        local crl = {
            file = file,
            issuer = issuer,
            this_update = tonumber(summary.this_update),
            next_update = summary.next_update ~= NO_TIME and tonumber(summary.next_update) or nil,
            entries = tonumber(summary.entries),
            bytes = tonumber(summary.bytes),
        }
        -- Plugins with different settings have a CRL each of the same URL.
        local identity = table.concat({ file, issuer, crl.this_update, crl.entries, crl.bytes }, "\n")
        if not known[identity] then
            known[identity] = true
            crls[#crls + 1] = crl
        end
    end

    return crls
end


-- The lists of client-cert-lists in force, at most max: { { file, entries, modified, error }, ... }. modified: when the
-- file was, in seconds since 1970, nil if that is not known; error: why the file cannot be read as it is now.
function _M:lists(max)
    local lists = {}
    local entries, modified = ffi.new("uint64_t[1]"), ffi.new("int64_t[1]")
    for i = 0, max - 1 do
        local file, err = library.read("engine.lists", function(a, b)
            return C.rmtls_engine_list_state(self.handle, i, a, b, entries, modified)
        end, true)
        if not file then
            break
        end

        lists[i + 1] = {
            file = file,
            entries = tonumber(entries[0]),
            modified = modified[0] > 0 and tonumber(modified[0]) or nil,
            error = err ~= "" and err or nil,
        }
    end

    return lists
end


-- The number of the plan of a route, or, for nil, of requests without a route.
function _M:plan(route)
    drop_previous_policy(self)
    local key = route or false
    local plan = self.plans[key]
    if plan then
        return plan
    end

    local status = C.rmtls_engine_plan(self.handle, route, route and #route or 0, self.number)
    if status ~= OK then
        return nil
    end

    plan = tonumber(self.number[0])
    self.plans[key] = plan

    return plan
end


-- The error for a route without a plan. now: seconds since the epoch.
function _M:no_route(route, now)
    return library.read("engine.no_route", function(out)
        return C.rmtls_engine_unknown_route(self.handle, route, #route, now, out)
    end)
end


-- Names, or else ids, of the routes with plugins that do not apply to requests without a route.
function _M:protected_routes()
    local routes = {}
    for i = 0, math.huge do
        local route = library.read("engine.route", function(out)
            return C.rmtls_engine_route(self.handle, i, out)
        end)
        if not route then
            return routes
        end

        if route ~= "" then
            routes[#routes + 1] = route
        end
    end
end


-- What the workers' user has no permission for: files of the policy, state_dir. A line each and at most max.
-- group: nil for the group that has the user's name.
function _M:missing_permissions(user, group, max)
    local lines = {}
    for i = 0, max - 1 do
        lines[i + 1] = library.read("engine.missing_permissions", function(out)
            return C.rmtls_engine_missing_permission(self.handle, user, #user, group, group and #group or 0, i, out)
        end)
        if not lines[i + 1] then
            break
        end
    end

    return lines
end


local function list(self, read, from, limit, filter)
    -- Large enough for most names: with too small a buffer everything is searched and sorted twice.
    local out = library.buffer(1024 + 192 * limit)
    local status = read(self.handle, from, limit, filter, #filter, out)
    if status == TOO_SMALL then
        out = library.buffer(tonumber(out.len))
        status = read(self.handle, from, limit, filter, #filter, out)
    end

    return status == OK and library.text(out) or nil
end


-- The routes of the policy with their plugins as JSON, at most limit after the first `from` of those whose names
-- contain the text filter.
function _M:list_routes(from, limit, filter)
    return list(self, C.rmtls_engine_list_routes, from, limit, filter)
end


-- The same of server names under which a client certificate is requested.
function _M:list_server_names(from, limit, filter)
    return list(self, C.rmtls_engine_list_server_names, from, limit, filter)
end


function _M:status()
    local status = ffi.new("rmtls_policy_status")
    if C.rmtls_engine_policy_status(self.handle, status) ~= OK then
        return nil
    end

    local digest = {}
    for i = 0, 31 do
        digest[i + 1] = ("%02x"):format(status.digest[i])
    end

    return {
        epoch = tonumber(status.epoch),
        since = tonumber(status.since),
        digest = table.concat(digest),
        counts = {
            routes = tonumber(status.routes),
            server_names = tonumber(status.server_names),
            certificate_requests = tonumber(status.certificate_requests),
            warnings = tonumber(status.warnings),
        },
    }
end


-- The epoch in force on the node and the one that each worker serves; nil for an engine that did not join.
function _M:node()
    local node = ffi.new("rmtls_node_state")
    if C.rmtls_engine_node_state(self.handle, node) ~= OK then
        return nil
    end

    local workers = {}
    local worker = ffi.new("rmtls_worker_state")
    for number = 0, ngx.worker.count() - 1 do
        if C.rmtls_engine_worker_state(self.handle, number, worker) == OK then
            workers[#workers + 1] = {
                worker = number,
                pid = worker.process,
                epoch = tonumber(worker.epoch),
                since = tonumber(worker.since),
                failed = worker.failed == 1,
            }
        end
    end

    return { epoch = tonumber(node.epoch), since = tonumber(node.since), workers = workers }
end


return _M
