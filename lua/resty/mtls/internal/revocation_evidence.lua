-- Has the engine verify signed answers about the revocation of a certificate: those that were fetched, and those that
-- are kept.

local ffi = require "ffi"
local answers = require "resty.mtls.internal.answers"
local library = require "resty.mtls.internal.library"
local lookups = require "resty.mtls.internal.revocation_lookup"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local INVALID = CONST.INVALID
local NOT_FOUND = CONST.NOT_FOUND
local STATUS_GOOD = CONST.REVOCATION_STATUS_GOOD
local STATUS_PARSING = CONST.REVOCATION_STATUS_PARSING
local STATUS_REVOKED = CONST.REVOCATION_STATUS_REVOKED
local SHORTAGE = shared_cache.SHORTAGE
local SUPERSEDED = shared_cache.SUPERSEDED
local floor = math.floor
local ipairs = ipairs
local max = math.max
local min = math.min
local monotonic = monotonic_clock.now
local ngx_sleep = ngx.sleep
local ngx_time = ngx.time
local tonumber = tonumber

-- Seconds for which an answer counts that was fetched too long ago, until the sources are asked again.
local RETRY_AFTER = 5
-- Seconds between two questions whether a large CRL has been parsed.
local PARSING_POLL = 0.01
local STILL_PARSING = "the CRL is still being parsed"
local MAX_REFRESH_AHEAD = 3600


local _M = { STILL_PARSING = STILL_PARSING }


local answer = ffi.new("rmtls_revocation_answer")


-- Has the engine verify the bytes of a source and cache the status. Returns the state, and the answer without its
-- bytes; or nil, an error, and its kind if the source is not at fault. The caller has just called lookups.is_current().
local function verify(lookup, source, bytes, fetched)
    local ok, err, status = library.try("unusable response", function(message)
        return C.rmtls_engine_revocation_response(lookup.engine.handle, lookup.client, lookup.plan, lookup.epoch,
                                                  source.index, bytes, #bytes, fetched, ngx_time(), answer, message)
    end)
    if not ok then
        return nil, err, status ~= INVALID and status ~= NOT_FOUND and SHORTAGE or nil
    end

    return answer.state, {
        kind = source.kind,
        state = answer.state,
        hold = answer.hold == 1,
        fetched = fetched,
        ["until"] = tonumber(answer["until"]),
        this_update = tonumber(answer.this_update),
        next_update = tonumber(answer.next_update),
        crl_entries = tonumber(answer.crl_entries),
        crl_next_update = tonumber(answer.crl_next_update),
    }
end


-- The same for bytes that may be a large CRL, which is parsed meanwhile. Yields.
function _M.verify_parsed(lookup, source, bytes, fetched, deadline)
    while true do
        if not lookups.is_current(lookup) then
            return nil, "another policy came into force", SUPERSEDED
        end

        local state, found, kind = verify(lookup, source, bytes, fetched)
        if state ~= STATUS_PARSING then
            return state, found, kind
        end

        if monotonic() >= deadline then
            return nil, STILL_PARSING, SHORTAGE
        end

        ngx_sleep(PARSING_POLL)
    end
end


-- Has the engine verify one kept answer: the status, and true if it should be fetched again; nil if it gives none. With
-- a driver, waits until a large CRL has been parsed, and yields.
local function use_answer(lookup, source, kept, anyway, driver)
    local now = ngx_time()
    local fetched = kept.fetched
    local ends = min(fetched + lookup.settings.ttl, kept.next_update)
    if anyway and ends <= now then
        fetched = now - max(lookup.settings.ttl - RETRY_AFTER, 0)
    end

    local state, found = verify(lookup, source, kept.bytes, fetched)
    while state == STATUS_PARSING and driver and monotonic() < driver.begun + lookup.options.timeout do
        driver.beat = monotonic()
        ngx_sleep(PARSING_POLL)
        if not lookups.is_current(lookup) then
            return nil
        end

        state, found = verify(lookup, source, kept.bytes, fetched)
    end

    if state == STATUS_GOOD then
        if found["until"] > now then
            return state, now >= floor(ends - min((ends - fetched) / 5, MAX_REFRESH_AHEAD))
        end

        return nil
    end

    return state, now >= ends
end


-- Gives the engine the answers that are kept. Returns the status if they have one, and true if it should be fetched
-- again; otherwise nil, nil, and true if a large CRL, which may revoke the certificate, is still being read or parsed.
-- anyway: an answer in force also counts when it was fetched longer ago than cert_cache_ttl, and when a CRL is still
-- being parsed. driver: waits for the parsing, and yields.
function _M.use_kept(lookup, anyway, driver)
    local due, parsing
    -- All of them, because one may revoke where another does not; and twice then, because the newest counts, and the
    -- engine must know the older ones first.
    for _ = 1, 2 do
        due, parsing = {}, false
        for _, source in ipairs(lookups.sources_of(lookup)) do
            local kept, reading = answers.get(lookup.dict, source.key)
            while reading and driver and monotonic() < driver.begun + lookup.options.timeout do
                driver.beat = monotonic()
                ngx_sleep(PARSING_POLL)
                if not lookups.is_current(lookup) then
                    return nil
                end

                kept, reading = answers.get(lookup.dict, source.key)
            end

            parsing = parsing or reading
            if kept then
                local state, is_due = use_answer(lookup, source, kept, anyway, driver)
                if state == STATUS_PARSING then
                    parsing = true
                elseif state then
                    due[state] = is_due and due[state] ~= false
                end
            end
        end

        if due[STATUS_REVOKED] == nil or due[STATUS_GOOD] == nil then
            break
        end
    end

    if due[STATUS_REVOKED] ~= nil then
        return STATUS_REVOKED, due[STATUS_REVOKED]
    end

    if due[STATUS_GOOD] ~= nil and (anyway or not parsing) then
        return STATUS_GOOD, due[STATUS_GOOD]
    end

    return nil, nil, parsing
end


return _M
