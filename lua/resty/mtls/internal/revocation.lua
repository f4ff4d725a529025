-- Revocation status of client certificates, for requests. The engine lists the sources of a certificate (OCSP
-- responders and CRLs) and verifies their answers; revocation_fetch.lua fetches them, for a driver
-- (revocation_driver.lua) that the requests wait for. ARCHITECTURE.md lists all yields.

local answers = require "resty.mtls.internal.answers"
local certificate = require "resty.mtls.certificate"
local connection = require "resty.mtls.internal.connection"
local drivers = require "resty.mtls.internal.revocation_driver"
local engine_of_worker = require "resty.mtls.internal.engine"
local evidence = require "resty.mtls.internal.revocation_evidence"
local fleet_answers = require "resty.mtls.internal.revocation_fleet"
local library = require "resty.mtls.internal.library"
local lookups = require "resty.mtls.internal.revocation_lookup"
local metrics = require "resty.mtls.internal.metrics"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local shortage = require "resty.mtls.internal.shortage"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local STATUS_PENDING = CONST.REVOCATION_STATUS_PENDING
local STATUS_UNKNOWN = CONST.REVOCATION_STATUS_UNKNOWN
local ipairs = ipairs
local min = math.min
local monotonic = monotonic_clock.now

-- Milliseconds after which a status without an answer is fetched again.
local RETRY_MS = 5000
-- Seconds for which a request that has waited long enough is let in without a status, with those after it.
local WAITED_FOR = 2
-- Milliseconds for which a first request waits for a look-up in Redis while the sources are down.
local FLEET_WAIT = 300
local DRIVER_DEAD = drivers.DRIVER_DEAD
-- Milliseconds in which a timer without delay must have started.
local START_WAIT = 50


local _M = {}


-- init_by_lua*
_M.init = drivers.init


-- Whether no source can be expected to answer: each of them, or the last attempt for this status, has failed within
-- the last minute.
local function are_down(lookup)
    if drivers.failure(lookup.key) then
        return true
    end

    for _, source in ipairs(lookups.sources_of(lookup)) do
        if not shared_cache.is_down(lookup.dict, source.url, lookup.failure_scope) then
            return false
        end
    end

    return true
end


-- Waits for a driver, for some milliseconds since it began.
local function wait_for(driver, milliseconds)
    local start_by = monotonic() + min(START_WAIT, milliseconds)
    while not driver.started and not driver.done do
        -- nginx's timers follow a coarse clock, by which a wait may end some milliseconds early.
        local left = start_by - monotonic()
        if left <= 0 then
            return
        end

        driver.semaphore:wait(left / 1000)
    end

    while not driver.done do
        local now = monotonic()
        local left = driver.begun + milliseconds - now
        if left <= 0 or driver.beat + DRIVER_DEAD < now then
            return
        end

        driver.semaphore:wait(min(left, 1000) / 1000)
    end
end


-- Gets the revocation status of the client's certificate, or of the one that read_certificate(out) returns,
-- and gives it to the engine, which then decides without waiting. Yields. find_plan() returns the plan in the policy in
-- force, or nil.
--
-- Returns true; nil when another policy came into force and the request must be decided again; or nil and
-- an error when this machine lacks something: the engine then has no status, and the request must not pass.
function _M.resolve(engine, plan, dict, find_plan, read_certificate)
    -- A separate handle, since the connection may be closed when a source responds.
    local presented = certificate.wrap(read_certificate or function(out)
        return C.rmtls_engine_tls_client(engine.handle, connection.ssl(), out)
    end)
    if not presented then
        return true
    end

    local lookup = lookups.new(engine, plan, C.rmtls_engine_epoch(engine.handle), dict, find_plan, presented)
    if not lookup then
        return true
    end

    drivers.ensure_keeper(dict)
    local _
    local state, is_due, parsing = evidence.use_kept(lookup, false)
    local now = monotonic()
    local driver = drivers.find(lookup.key)
    if state then
        if is_due and not driver and drivers.has_room() then
            drivers.start(lookup, now)
        end

        return true
    end

    -- A CRL that is being parsed needs no source.
    local down = not parsing and are_down(lookup)
    local failed = drivers.failure(lookup.key)
    drivers.want(lookup.key, now)

    local err
    if not driver and (parsing or not (failed and now - failed.at < RETRY_MS)) then
        driver, err = drivers.start(lookup, now)
    end

    if driver then
        driver.wanted = now
        if err and not down then
            shortage.report_timer("no timer to fetch a revocation status, which the request does itself: ", err)
            drivers.drive(false, driver)
        elseif not down then
            wait_for(driver, lookup.settings.wait)
        elseif not err and answers.has_fleet() and not failed then
            wait_for(driver, min(FLEET_WAIT, lookup.settings.wait))
        end

        if not driver.started and not driver.done and not down and monotonic() - driver.begun >= START_WAIT then
            -- nginx had no connection for the timer, or too many timers run.
            shortage.report_timer("no timer to fetch a revocation status, which the request does itself: ",
                                  "the timer did not run")
            drivers.drive(false, driver)
        end
    end

    if not lookups.is_current(lookup) or driver and driver.done and (driver.superseded or driver.lost) then
        return nil
    end

    if driver and driver.done then
        metrics.count("revocation_waits_total", driver.state and "answered" or driver.shortage and "shortage"
                                                or "unknown")
        if driver.shortage and not driver.state then
            return nil, driver.shortage
        end

        if driver.state then
            -- The driver may have been of another policy with the same key.
            evidence.use_kept(lookup, driver.is_of_fleet)
        end

        return true
    end

    metrics.count("revocation_waits_total", down and "down" or "late")
    state, _, parsing = evidence.use_kept(lookup, true)
    if state then
        -- An answer in force, although it should have been fetched again.
        return true
    end

    if parsing then
        return nil, evidence.STILL_PARSING
    end

    if lookup.settings.strict then
        lookups.set_status(lookup, STATUS_UNKNOWN, 1)
    else
        lookups.set_status(lookup, STATUS_PENDING, down and 1 or WAITED_FOR)
    end

    return true
end


-- Forgets the statuses that are known, on all workers within a second, but not that certificates are revoked.
function _M.flush(dict)
    dict = dict or "mtls"
    answers.flush(dict)
    C.rmtls_engine_forget_statuses(engine_of_worker.current().handle)
    drivers.forget(dict)
    fleet_answers.forget()
end


return _M
