-- Puts another policy in force in a running worker. The library compiles it, and frees the previous one, in
-- a thread beside the event loop; this module waits for it, and watches the files of the policy.

local ffi = require "ffi"
local request_headers = require "resty.mtls.internal.request_headers"
local library = require "resty.mtls.internal.library"
local metrics = require "resty.mtls.internal.metrics"
local token_client_certificate = require "resty.mtls.internal.token_client_certificate"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local BUILDING = CONST.RELOAD_BUILDING
local IN_FORCE = CONST.RELOAD_IN_FORCE
local UNSETTLED = CONST.RELOAD_UNSETTLED
local FILES_CHANGED = CONST.WATCH_CHANGED
local FILES_UNSETTLED = CONST.WATCH_UNSETTLED
local is_exiting = ngx.worker.exiting
local math_huge = math.huge
local math_min = math.min
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local ngx_time = ngx.time
local timer_at = ngx.timer.at

local ERR = ngx.ERR
local NOTICE = ngx.NOTICE
local WARN = ngx.WARN

-- Phases in which ngx.sleep may be called.
local YIELDABLE = {
    server_rewrite = true,
    rewrite = true,
    access = true,
    content = true,
    timer = true,
    ssl_client_hello = true,
    ssl_cert = true,
    ssl_session_fetch = true,
}

-- For errors, one line each.
local MESSAGE_SIZE = 65536
-- Seconds between two checks of a policy that is being compiled: at first and at most.
local POLL, MAX_POLL = 0.001, 0.02
-- Milliseconds that a blocking wait takes at most, in phases that cannot yield.
local BLOCKING_WAIT = 3600000
-- Milliseconds that the first handshake of a worker waits for a policy that changed before: enough for some
-- hundred routes, and too short to be noticed.
local FIRST_WAIT = 15
-- Seconds that the first requests of a worker wait for it. Then they are answered 503.
local FIRST_DEADLINE = 10
-- Seconds after which a reload is reported that has not ended: the disk of its files may hang.
local LONG = FIRST_DEADLINE
-- How often a request in a worker that exits waits for a policy, each of which was replaced meanwhile.
local MAX_CATCH_UPS = 5
-- Seconds between two checks of the policy in force on the node, where no files are watched.
local NODE_INTERVAL = 1
-- Seconds after which the same error is logged again.
local LOG_INTERVAL = 60
-- Seconds between two checks of files that are being written, and how often they are checked in one run of
-- the watch.
local UNSETTLED_INTERVAL, MAX_UNSETTLED_CHECKS = 0.1, 10


local _M = {}


-- The reload of a policy that had changed before the first handshake or request of this worker. Nothing is decided
-- before it is in force.
local pending_reload
local pending_deadline = 0
-- The reload that the requests of a worker that exits wait for.
local exit_reload
-- Results of reloads that several callers wait for, since the library returns a result only once.
local results = setmetatable({}, { __mode = "k" })
-- When the watch last ran, and when it must have run again, in seconds since the epoch.
local watched_at, watch_deadline = 0, 0
local files = ffi.new("int32_t[1]")
local state = ffi.new("int32_t[1]")
-- One buffer for all reloads: it is read before anything else runs.
local message = library.buffer(MESSAGE_SIZE)
local interval_ms = ffi.new("uint32_t[1]")
local watcher_number = ffi.new("uint32_t[1]")


-- The first of several errors and the number of the others, for one line of the log.
local function first_line(err)
    local line = err:match("^[^\n]*")
    local _, newlines = err:gsub("\n", "\n")
    if newlines == 0 then
        return line
    end

    return line .. " (and " .. newlines .. " more: run resty-mtls check)"
end
_M.first_line = first_line


-- The last error that was logged, when, when it is logged again, and since when it lasts.
local logged_error, logged_at, log_again_at, failing_since


-- Whether the last error is not due to be logged again. It is when its time is in the future: the clock was
-- set back since.
local function was_logged_recently(now)
    return now >= logged_at and now < log_again_at
end


-- Logs why a policy is not in force: each error once, and again once a minute while it lasts.
local function log_failure(engine, err)
    local now = ngx_time()
    if err == logged_error and was_logged_recently(now) then
        return
    end

    failing_since = err == logged_error and math_min(failing_since, now) or now
    local lasting = now - failing_since
    logged_error, logged_at, log_again_at = err, now, now + LOG_INTERVAL
    if lasting == 0 then
        ngx_log(ERR, "[mtls] policy not reloaded: ", first_line(err))

        return
    end

    local behind = C.rmtls_engine_is_behind(engine.handle) == OK
    ngx_log(ERR, "[mtls] policy not reloaded for ", lasting, " s, ",
            behind and "routes answer 503" or "the previous one stays in force", ": ", first_line(err))
end


-- Publishes to the other workers which policy this one serves.
local function report(engine)
    local worker = ngx.worker.id()
    -- The number of a worker that exits is that of its successor.
    if worker and not is_exiting() then
        C.rmtls_engine_report_worker(engine.handle, worker)
    end
end


-- Starts a reload. source: { path = "..." }, { document = "...", label = "..." }, { node = true } for what is in
-- force on the node, or nil for the source of this worker's policy, if it changed. Returns a handle to poll;
-- or nil, an error and the status.
local function start(engine, source)
    local out = ffi.new("rmtls_reload*[1]")
    local ok, err, status = library.try("policy", function(errbuf)
        if not source then
            return C.rmtls_reload_new_changed(engine.handle, out, errbuf)
        end

        if source.node then
            return C.rmtls_reload_new_from_node(engine.handle, out, errbuf)
        end

        if source.path then
            return C.rmtls_reload_new_file(engine.handle, source.path, #source.path, out, errbuf)
        end

        return C.rmtls_reload_new(engine.handle, source.document, #source.document, source.label,
                                  #source.label, out, errbuf)
    end)
    if not ok then
        return nil, err, status
    end

    return ffi.gc(out[0], function(reload)
        C.rmtls_reload_free(reload)
    end)
end


-- The state of a reload; nil and the errors if it failed. Logs its result.
local function poll(engine, reload, wait)
    local result = results[reload]
    if result ~= nil then
        return result or nil
    end

    message.len = 0
    local status = C.rmtls_reload_poll(reload, wait, state, message)
    if status ~= OK then
        results[reload] = false
        local _, err = library.failure("policy", status, message)
        err = err:gsub("^policy: ", "")
        log_failure(engine, err)
        metrics.count("policy_reloads_total", "failed")

        return nil, err
    end

    local progress = state[0]
    if progress ~= BUILDING then
        results[reload] = progress
    end

    if progress == IN_FORCE then
        -- Whichever policy this is, it is newer than the pending one.
        pending_reload = nil
        logged_error = nil
        report(engine)
        local what, fault = library.text(message):match("^([^\n]*)\n?(.*)$")
        ngx_log(NOTICE, "[mtls] policy reloaded: ", what)
        if fault ~= "" then
            ngx_log(ERR, "[mtls] policy in force: ", fault)
        end

        local unsupported = token_client_certificate.unsupported(engine)
        if unsupported then
            ngx_log(ERR, "[mtls] policy in force: ", unsupported)
        end

        metrics.count("policy_reloads_total", "ok")
        for _, warning in ipairs(engine:warnings(request_headers.has_trusted_peers())) do
            ngx_log(WARN, "[mtls] ", warning)
        end
    end

    return progress
end


local function warn_of_long_reload()
    ngx_log(WARN, "[mtls] policy not reloaded yet: reading and compiling it takes over ", LONG, " s")
end


-- Waits for the end of a reload, without blocking the worker in phases that can yield.
local function await_reload(engine, reload)
    if not YIELDABLE[ngx.get_phase()] then
        local progress, err = poll(engine, reload, LONG * 1000)
        if progress == BUILDING then
            warn_of_long_reload()
            progress, err = poll(engine, reload, BLOCKING_WAIT)
        end

        return progress, err
    end

    local pause = POLL
    local long_at = ngx_now() + LONG
    while true do
        local progress, err = poll(engine, reload, 0)
        if progress ~= BUILDING then
            return progress, err
        end

        if ngx_now() > long_at then
            warn_of_long_reload()
            long_at = math_huge
        end

        ngx_sleep(pause)
        pause = math_min(1.5 * pause, MAX_POLL)
    end
end


-- true once the policy is in force; nil and the errors if it is not, and the previous one stays in force.
function _M.run(engine, source)
    -- There must be no thread before the workers are forked.
    if ngx.get_phase() == "init" then
        return engine:load(source)
    end

    _M.ensure_watched(engine)

    local reload, err = start(engine, source)
    if not reload then
        log_failure(engine, err)
        metrics.count("policy_reloads_total", "failed")

        return nil, err
    end

    local progress
    progress, err = await_reload(engine, reload)
    if not progress then
        return nil, err
    end

    return true
end


-- Puts in force what another worker has put in force. If that fails, routes answer 503 until the files of
-- the policy are valid.
local function catch_up(engine)
    local reload, err = start(engine, { node = true })
    if not reload then
        log_failure(engine, err)

    elseif await_reload(engine, reload) then
        return
    end

    C.rmtls_engine_set_unavailable(engine.handle)
end


-- Puts in force in a worker that exits what its successors have put in force. Timers, and so the watch, do not run
-- there any more, but requests that were accepted before do. They wait for one reload together: of several, the library
-- drops all but the last, and a request whose own is dropped would be decided by the old policy.
local function catch_up_at_exit(engine)
    local deadline = ngx_now() + FIRST_DEADLINE
    for _ = 1, MAX_CATCH_UPS do
        if C.rmtls_engine_is_behind(engine.handle) ~= OK then
            return
        end

        local err
        if not exit_reload then
            exit_reload, err = start(engine, { node = true })
        end

        local reload = exit_reload
        if not reload then
            log_failure(engine, err)
            break
        end

        local progress = poll(engine, reload, 0)
        while progress == BUILDING and ngx_now() <= deadline do
            ngx_sleep(POLL)
            progress = poll(engine, reload, 0)
        end

        if progress == BUILDING then
            ngx_log(ERR, "[mtls] the policy in force takes over ", FIRST_DEADLINE, " s to compile")
            break
        end

        if exit_reload == reload then
            exit_reload = nil
        end

        if not progress then
            break
        end
    end

    C.rmtls_engine_set_unavailable(engine.handle)
end


-- One run of the watch: reloads the policy if it has changed. false when the watch must end.
local function watch_once(engine, watcher, reload)
    if reload then
        if await_reload(engine, reload) == nil then
            C.rmtls_engine_set_unavailable(engine.handle)
        end

        reload = nil

    elseif C.rmtls_engine_is_behind(engine.handle) == OK then
        catch_up(engine)
    end

    for _ = 1, MAX_UNSETTLED_CHECKS do
        if not reload then
            if C.rmtls_engine_watch_check(engine.handle, watcher, files) ~= OK then
                return false
            end

            if files[0] == FILES_CHANGED then
                local err, status
                reload, err, status = start(engine)
                if not reload then
                    -- NOT_FOUND: a policy that is not from a file came into force meanwhile.
                    if status ~= NOT_FOUND then
                        log_failure(engine, err)
                        metrics.count("policy_reloads_total", "failed")
                    end

                    return true
                end

            elseif files[0] ~= FILES_UNSETTLED then
                return true
            end
        end

        if reload and await_reload(engine, reload) ~= UNSETTLED then
            return true
        end

        reload = nil
        ngx_sleep(UNSETTLED_INTERVAL)
        if is_exiting() then
            return false
        end
    end

    return true
end


-- Logs again the error of files that have not changed since.
local function log_lasting_failure(engine)
    if logged_error and not was_logged_recently(ngx_time()) then
        local err = engine:last_error()
        if err then
            log_failure(engine, err)

        else
            logged_error = nil
        end
    end
end


local list_event = ffi.new("int32_t[1]")
-- Since when the first requests of this worker wait for a list whose file has changed since nginx started.
local lists_deadline


-- Logs what happened to the lists of certificates since the last call.
local function log_list_events(engine)
    while true do
        local text = library.read("lists", function(out)
            return C.rmtls_engine_list_event(engine.handle, list_event, out)
        end)
        if not text then
            return
        end

        if list_event[0] == CONST.LIST_IN_FORCE then
            ngx_log(NOTICE, "[mtls] list in force: ", text)
        else
            ngx_log(ERR, "[mtls] list not reloaded, the previous one stays in force: ", text)
        end
    end
end


-- Starts to read the lists whose files have changed.
local function watch_lists(engine)
    log_list_events(engine)
    local ok, err = library.try("lists", function(errbuf)
        return C.rmtls_engine_watch_lists(engine.handle, errbuf)
    end)
    if not ok then
        ngx_log(ERR, "[mtls] watch: ", err)
    end
end


local function watch(premature, engine, watcher, interval, reload)
    if premature then
        pending_reload = nil

        return
    end

    local ok, continues = pcall(watch_once, engine, watcher, reload)
    pending_reload = nil
    if not ok then
        ngx_log(ERR, "[mtls] watch: ", continues)

    elseif not continues then
        return
    end

    watched_at = ngx_time()
    watch_deadline = watched_at + 3 * interval + 10
    log_lasting_failure(engine)
    watch_lists(engine)
    report(engine)

    -- Not ngx.timer.every, which cannot be stopped. If this fails, the next handshake starts the watch again.
    local err
    ok, err = timer_at(interval, watch, engine, watcher, interval)
    if not ok and err ~= "process exiting" then
        ngx_log(ERR, "[mtls] watch: ", err)
    end
end


local function start_watch(engine)
    local worker = ngx.worker.id()
    if not worker then
        -- A helper process, which has no requests.
        watch_deadline, watched_at = math_huge, 0

        return
    end

    local status = C.rmtls_engine_watch_start(engine.handle, interval_ms, watcher_number)
    local interval = interval_ms[0] == 0 and NODE_INTERVAL or interval_ms[0] / 1000
    watched_at = ngx_time()
    watch_deadline = watched_at + 3 * interval + 10
    if status ~= OK then
        return
    end

    local watcher = tonumber(watcher_number[0])
    local reload
    if C.rmtls_engine_is_behind(engine.handle) == OK then
        reload = start(engine, { node = true })

    elseif C.rmtls_engine_watch_check(engine.handle, watcher, files) == OK and files[0] == FILES_CHANGED then
        reload = start(engine)
    end

    watch_lists(engine)
    if C.rmtls_engine_is_awaiting_lists(engine.handle) == OK then
        lists_deadline = ngx_now() + FIRST_DEADLINE
    end

    if reload and poll(engine, reload, FIRST_WAIT) ~= BUILDING then
        reload = nil
    end

    report(engine)
    local ok, err = timer_at(reload and 0 or interval, watch, engine, watcher, interval, reload)
    if ok then
        pending_reload = reload
        pending_deadline = ngx_now() + FIRST_DEADLINE

    elseif err ~= "process exiting" then
        ngx_log(ERR, "[mtls] watch: ", err)
    end
end


-- Whether the watch has not run in time. After the clock was set back, it counts as overdue.
local function is_overdue()
    local now = ngx_time()

    return now >= watch_deadline or now < watched_at
end


-- Makes sure that the files of the policy are watched in this worker. Every phase calls it, since nginx does
-- not run Lua at the start of a worker without a directive of its own.
function _M.ensure_watched(engine)
    if is_overdue() then
        start_watch(engine)
    end
end


-- The same, and waits for the policy if it was out of date at the first handshake or request of the worker, or is in
-- one that exits. Yields then.
function _M.await_policy(engine)
    if is_exiting() then
        catch_up_at_exit(engine)

    elseif is_overdue() then
        start_watch(engine)
    end

    while lists_deadline do
        if C.rmtls_engine_is_awaiting_lists(engine.handle) ~= OK or ngx_now() > lists_deadline then
            lists_deadline = nil

        else
            ngx_sleep(POLL)
        end
    end

    while pending_reload do
        -- The timer of the watch may be late (lua_max_running_timers), so the reload is polled here too. Files
        -- that are being written are left to the timer.
        local progress = poll(engine, pending_reload, 0)
        if progress ~= BUILDING and progress ~= UNSETTLED then
            pending_reload = nil

        elseif ngx_now() > pending_deadline then
            pending_reload = nil
            ngx_log(ERR, "[mtls] watch: the policy in force takes over ", FIRST_DEADLINE, " s to compile")

        else
            ngx_sleep(POLL)
        end
    end
end


return _M
