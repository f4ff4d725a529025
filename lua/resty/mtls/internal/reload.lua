-- Another policy for a worker that goes on serving. The library compiles it in a thread beside the
-- event loop and frees the old one there; here it is waited for, and the files of the policy are
-- watched.

local ffi = require "ffi"
local request_headers = require "resty.mtls.internal.request_headers"
local library = require "resty.mtls.internal.library"
local metrics = require "resty.mtls.internal.metrics"
local STATUS = require "resty.mtls.internal.cdef"


local C = library.C
local OK = STATUS.OK
local NOT_FOUND = STATUS.NOT_FOUND
local BUILDING = STATUS.RELOAD_BUILDING
local IN_FORCE = STATUS.RELOAD_IN_FORCE
local UNSETTLED = STATUS.RELOAD_UNSETTLED
local CHANGED = STATUS.LOOK_CHANGED
local LOOK_UNSETTLED = STATUS.LOOK_UNSETTLED
local math_huge = math.huge
local math_min = math.min
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local ngx_time = ngx.time
local pcall = pcall
local timer_at = ngx.timer.at
local tonumber = tonumber

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

-- One line an error.
local MESSAGE_SIZE = 65536
-- Between two looks at a policy that is being compiled, in seconds: first and last.
local PAUSE, MAX_PAUSE = 0.001, 0.02
-- In one go, where nothing may yield, in milliseconds.
local LONG = 3600000
-- What the first handshake of a worker may wait for a policy that changed before it, in
-- milliseconds: enough for some hundred routes, and no stall that anybody would notice.
local FIRST_WAIT = 15
-- What the first requests of a worker may wait for it, in seconds. Then they are answered 503.
local FIRST_DEADLINE = 10
-- Between two looks at the policy in force on the node where no files are watched, in seconds.
local NODE_INTERVAL = 1
-- The same error is logged again after so many seconds.
local REMIND = 60
-- Between two looks at files that somebody may be writing, and how many there are at most until the
-- next turn.
local SETTLING, MAX_SETTLING = 0.1, 10


local _M = {}


-- A policy that was already changed when this worker got its first work. Nothing is decided before
-- it is in force.
local first
local first_deadline = 0
-- What became of a reload that several wait for: the library tells it once.
local told = setmetatable({}, { __mode = "k" })
-- Until then somebody watches the files, in seconds since the epoch.
local alarm, armed = 0, 0
local look = ffi.new("int32_t[1]")
local state = ffi.new("int32_t[1]")
-- One for all: what is in it is read before anything else runs.
local message = library.buffer(MESSAGE_SIZE)
local every = ffi.new("uint32_t[1]")
local token = ffi.new("uint32_t[1]")


-- The first of several errors, for a log that has one line for them.
local function first_line(err)
    local line = err:match("^[^\n]*")
    local _, newlines = err:gsub("\n", "\n")
    if newlines == 0 then
        return line
    end

    return line .. " (and " .. newlines .. " more: run resty-mtls check)"
end
_M.first_line = first_line


-- The last error that was logged, when, until when it is not logged again, and since when it lasts.
local logged, logged_at, remind_at, failing_since


-- Whether the last error need not be logged again yet. One that was logged in the future, by a clock that was
-- ahead, must be.
local function is_reminded(now)
    return now >= logged_at and now < remind_at
end


-- Logs why a policy is not in force: each error once, and again once a minute while it lasts.
local function log_failure(engine, err)
    local now = ngx_time()
    if err == logged and is_reminded(now) then
        return
    end

    failing_since = err == logged and math_min(failing_since, now) or now
    local lasting = now - failing_since
    logged, logged_at, remind_at = err, now, now + REMIND
    if lasting == 0 then
        ngx_log(ERR, "[mtls] policy not reloaded: ", first_line(err))

        return
    end

    local behind = C.rmtls_engine_is_behind(engine.handle) == OK
    ngx_log(ERR, "[mtls] policy not reloaded for ", lasting, " s, ",
            behind and "routes answer 503" or "the one before serves on", ": ", first_line(err))
end


-- Shows the other workers which policy this one has.
local function report(engine)
    local worker = ngx.worker.id()
    if worker then
        C.rmtls_engine_report(engine.handle, worker)
    end
end


-- source: { path = "..." }, { document = "...", label = "..." }, { node = true } for what is in force on
-- the node, or nil for where the policy of this worker came from, if it changed. A handle to poll, or nil,
-- why not, and the status.
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


-- Its state, with the errors if it failed; logs what came of it.
local function poll(engine, reload, wait)
    local known = told[reload]
    if known ~= nil then
        return known or nil
    end

    message.len = 0
    local status = C.rmtls_reload_poll(reload, wait, state, message)
    if status ~= OK then
        told[reload] = false
        local _, err = library.failure("policy", status, message)
        err = err:gsub("^policy: ", "")
        log_failure(engine, err)
        metrics.count("policy_reloads_total", "failed")

        return nil, err
    end

    local progress = state[0]
    if progress ~= BUILDING then
        told[reload] = progress
    end

    if progress == IN_FORCE then
        -- Whichever policy that is, it is newer.
        first = nil
        logged = nil
        report(engine)
        local what, fault = library.text(message):match("^([^\n]*)\n?(.*)$")
        ngx_log(NOTICE, "[mtls] policy reloaded: ", what)
        if fault ~= "" then
            ngx_log(ERR, "[mtls] policy in force: ", fault)
        end

        metrics.count("policy_reloads_total", "ok")
        for _, warning in ipairs(engine:warnings(request_headers.trusts())) do
            ngx_log(WARN, "[mtls] ", warning)
        end
    end

    return progress
end


-- Waits for it without holding up the worker, where that is possible.
local function finish(engine, reload)
    if not YIELDABLE[ngx.get_phase()] then
        return poll(engine, reload, LONG)
    end

    local pause = PAUSE
    while true do
        local progress, err = poll(engine, reload, 0)
        if progress ~= BUILDING then
            return progress, err
        end

        ngx_sleep(pause)
        pause = math_min(1.5 * pause, MAX_PAUSE)
    end
end


-- true once the policy is in force, or nil and the errors with the old one still serving.
function _M.run(engine, source)
    -- Before the workers are forked off there must be no thread.
    if ngx.get_phase() == "init" then
        return engine:load(source)
    end

    _M.check(engine)

    local reload, err = start(engine, source)
    if not reload then
        log_failure(engine, err)
        metrics.count("policy_reloads_total", "failed")

        return nil, err
    end

    local progress
    progress, err = finish(engine, reload)
    if not progress then
        return nil, err
    end

    return true
end


-- Gets what another worker has put in force. Where that cannot be had, routes answer 503 until the files of
-- the policy are good.
local function catch_up(engine)
    local reload, err = start(engine, { node = true })
    if not reload then
        log_failure(engine, err)

    elseif finish(engine, reload) then
        return
    end

    C.rmtls_engine_cannot_follow(engine.handle)
end


-- One turn of the watch: looks, and reloads what has changed.
local function turn(engine, watcher, reload)
    if reload then
        if finish(engine, reload) == nil then
            C.rmtls_engine_cannot_follow(engine.handle)
        end

        reload = nil

    elseif C.rmtls_engine_is_behind(engine.handle) == OK then
        catch_up(engine)
    end

    for _ = 1, MAX_SETTLING do
        if not reload then
            if C.rmtls_engine_watch_look(engine.handle, watcher, look) ~= OK then
                return false
            end

            if look[0] == CHANGED then
                local err, status
                reload, err, status = start(engine)
                if not reload then
                    -- Else a policy that is from no file came into force meanwhile.
                    if status ~= NOT_FOUND then
                        log_failure(engine, err)
                        metrics.count("policy_reloads_total", "failed")
                    end

                    return true
                end

            elseif look[0] ~= LOOK_UNSETTLED then
                return true
            end
        end

        if reload and finish(engine, reload) ~= UNSETTLED then
            return true
        end

        reload = nil
        ngx_sleep(SETTLING)
        if ngx.worker.exiting() then
            return false
        end
    end

    return true
end


-- Says again what was wrong with files that have not changed since.
local function remind(engine)
    if logged and not is_reminded(ngx_time()) then
        local err = engine:last_error()
        if err then
            log_failure(engine, err)

        else
            logged = nil
        end
    end
end


local function watch(premature, engine, watcher, interval, reload)
    if premature then
        first = nil

        return
    end

    local ok, going_on = pcall(turn, engine, watcher, reload)
    first = nil
    if not ok then
        ngx_log(ERR, "[mtls] watch: ", going_on)

    elseif not going_on then
        return
    end

    armed = ngx_time()
    alarm = armed + 3 * interval + 10
    remind(engine)
    report(engine)

    -- Not ngx.timer.every, which cannot be stopped. Should this fail, the next handshake starts anew.
    ok, going_on = timer_at(interval, watch, engine, watcher, interval)
    if not ok and going_on ~= "process exiting" then
        ngx_log(ERR, "[mtls] watch: ", going_on)
    end
end


local function start_watch(engine)
    local worker = ngx.worker.id()
    if not worker then
        -- A helper process without requests.
        alarm, armed = math_huge, 0

        return
    end

    local status = C.rmtls_engine_watch_start(engine.handle, every, token)
    local interval = every[0] == 0 and NODE_INTERVAL or every[0] / 1000
    armed = ngx_time()
    alarm = armed + 3 * interval + 10
    if status ~= OK then
        return
    end

    local watcher = tonumber(token[0])
    local reload
    if C.rmtls_engine_is_behind(engine.handle) == OK then
        reload = start(engine, { node = true })

    elseif C.rmtls_engine_watch_look(engine.handle, watcher, look) == OK and look[0] == CHANGED then
        reload = start(engine)
    end

    if reload and poll(engine, reload, FIRST_WAIT) ~= BUILDING then
        reload = nil
    end

    report(engine)
    local ok, err = timer_at(reload and 0 or interval, watch, engine, watcher, interval, reload)
    if ok then
        first = reload
        first_deadline = ngx_now() + FIRST_DEADLINE

    elseif err ~= "process exiting" then
        ngx_log(ERR, "[mtls] watch: ", err)
    end
end


-- Whether no watch has looked in time. A clock set back makes the time void.
local function is_overdue()
    local now = ngx_time()

    return now >= alarm or now < armed
end


-- Sees to it that the files of the policy are watched in this worker, whatever its first work is:
-- nginx gives Lua no other occasion without a directive of its own.
function _M.check(engine)
    if is_overdue() then
        start_watch(engine)
    end
end


-- The same where nothing must be decided under a policy that was out of date when the worker got
-- its first work. Yields then.
function _M.check_and_wait(engine)
    if is_overdue() then
        start_watch(engine)
    end

    while first do
        -- Here too: the timer may be kept waiting (lua_max_running_timers). It sees to files that
        -- have not settled.
        local progress = poll(engine, first, 0)
        if progress ~= BUILDING and progress ~= UNSETTLED then
            first = nil

        elseif ngx_now() > first_deadline then
            first = nil
            ngx_log(ERR, "[mtls] watch: the policy in force takes over ", FIRST_DEADLINE, " s to compile")

        else
            ngx_sleep(PAUSE)
        end
    end
end


return _M
