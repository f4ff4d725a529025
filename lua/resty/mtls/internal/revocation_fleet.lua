-- What other nodes of a fleet have fetched about the revocation of a certificate. It counts where no source answers,
-- and at once if it revokes. Nothing in Redis shortens the time of a source, is used where a source has answered, or
-- replaces a newer answer.

local answers = require "resty.mtls.internal.answers"
local evidence = require "resty.mtls.internal.revocation_evidence"
local fetching = require "resty.mtls.internal.revocation_fetch"
local lookups = require "resty.mtls.internal.revocation_lookup"
local lrucache = require "resty.lrucache"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local CONST = require "resty.mtls.internal.cdef"


local SOURCE_OCSP = CONST.REVOCATION_SOURCE_OCSP
local STATUS_REVOKED = CONST.REVOCATION_STATUS_REVOKED
local monotonic = monotonic_clock.now
local ngx_log = ngx.log

local MAX_OCSP = fetching.MAX_OCSP
-- Milliseconds for a look-up in Redis, and for which a first request waits for one while the sources are down.
local FLEET_TIMEOUT = 1000
-- Answers in Redis that a worker remembers for some seconds: a CRL is needed for many certificates.
local FLEET_ENTRIES = 16
local REMEMBERED_FOR = 5
-- Milliseconds after which an answer that cannot be used is logged again.
local REPORTED_FOR = 60000


local _M = {}

-- What Redis has, by the key of the source: bytes, or "" for nothing.
local of_fleet = lrucache.new(FLEET_ENTRIES)
local rejected_at


-- What Redis has for a source: bytes, or "". Yields.
local function read_fleet(lookup, source)
    local key = source.key
    local bytes = of_fleet:get(key)
    if bytes then
        return bytes
    end

    bytes = shared_cache.get(lookup.dict, "fleet:" .. key, { timeout = FLEET_TIMEOUT }, function()
        return answers.from_fleet(key) or ""
    end) or ""
    of_fleet:set(key, bytes, REMEMBERED_FOR)

    return bytes
end


-- The answers of other nodes that this node has verified, and that are newer than its own: { source, found }, and the
-- generation in which they were read. Returns
-- also whether one of them revokes the certificate; the list has the generation in which it was begun. Yields.
function _M.verify(lookup, deadline)
    local list = { generation = answers.generation(lookup.dict) }
    for _, source in ipairs(lookups.sources_of(lookup)) do
        local bytes = read_fleet(lookup, source)
        local state, found, kind
        if bytes ~= "" and #bytes <= (source.kind == SOURCE_OCSP and MAX_OCSP or lookup.settings.max_crl_bytes) then
            -- 0 for when it was fetched: so "good" is not cached.
            state, found, kind = evidence.verify_parsed(lookup, source, bytes, 0, deadline)
        end

        local kept = state and answers.get_read(lookup.dict, source.key)
        local is_newer = state and found.this_update >= 0
                         and (not kept or kept.this_update < found.this_update
                              or kept.this_update == found.this_update and state == STATUS_REVOKED)
        if is_newer then
            -- As if it was fetched in 1970, since the source should be asked again. The seconds tell answers apart.
            found.bytes, found.fetched = bytes, found.this_update % 86400
            if state == STATUS_REVOKED then
                answers.put(lookup.dict, source.key, found, list.generation)

                return list, true
            end

            if found.this_update >= answers.flushed_at(lookup.dict) then
                list[#list + 1] = { source = source, found = found }
            end
        elseif found and not state and not kind and not (rejected_at and monotonic() - rejected_at < REPORTED_FOR) then
            rejected_at = monotonic()
            ngx_log(ngx.WARN, "[mtls] fleet: the answer of ", source.url, " in Redis is not used: ", found)
        end
    end

    return list, false
end


-- Keeps the answers of other nodes. They count for some seconds, in which the source is asked again.
function _M.use(lookup, list)
    for _, entry in ipairs(list) do
        local kept = answers.get_read(lookup.dict, entry.source.key)
        if not kept or kept.this_update < entry.found.this_update then
            answers.put(lookup.dict, entry.source.key, entry.found, list.generation)
        end
    end

    if not lookups.is_current(lookup) then
        return nil
    end

    return evidence.use_kept(lookup, true)
end


-- Forgets what Redis had.
function _M.forget()
    of_fleet = lrucache.new(FLEET_ENTRIES)
end


return _M
