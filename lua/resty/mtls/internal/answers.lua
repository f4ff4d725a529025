-- Signed answers about the revocation of client certificates, as bytes: OCSP responses and CRLs. They are kept in the
-- shared dictionary, where all workers find them, and what does not fit there in files of state_dir, or else in the
-- worker. Each worker has the engine verify them itself.
--
-- An answer "good" is kept until its nextUpdate. An answer that may prove a revocation (a CRL, and an OCSP response
-- "revoked") is kept until a newer one replaces it.

local ffi = require "ffi"
local engine = require "resty.mtls.internal.engine"
local library = require "resty.mtls.internal.library"
local metrics = require "resty.mtls.internal.metrics"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local max = math.max
local min = math.min
local monotonic = monotonic_clock.now
local ngx_log = ngx.log
local ngx_time = ngx.time

local SOURCE_CRL = CONST.REVOCATION_SOURCE_CRL
local STATUS_REVOKED = CONST.REVOCATION_STATUS_REVOKED


local PREFIX = "answer:"
local GENERATION, FLUSHED = "answers:generation", "answers:flushed"
-- Most seconds for which an answer "good" is kept, and bytes that one worker keeps for itself.
local MAX_TTL = 30 * 86400
local MAX_WORKER_BYTES = 64 * 1024 * 1024
-- Answers in files over this size are also kept by each worker that has read them.
local MAX_FILE_AT_ONCE = 65536
-- Longest head of a kept answer, with validators of at most 8 KB each.
local MAX_HEAD = 32768
-- The first line of a kept answer: times, state, hold, generation, and the lengths of the validators.
local HEAD = "^(%d+) (%-?%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)\n()"
-- Largest value of the dictionary, as a part of its size.
local MAX_PART = 1 / 4
-- Seconds by which the cached times of two workers may differ.
local CLOCK_TOLERANCE = 1
-- Seconds by which the clock of a CA may be ahead.
local CLOCK_SKEW = 300
local MAX_TIME = 2 ^ 53
-- Seconds between two questions whether an answer has been read from its file, and milliseconds until it counts as
-- none.
local READING_POLL = 0.005
local READING_TIMEOUT = 10000
-- Digits at the beginning of a key that identify the CA: the files of one CA do not push out those of others.
local CA_DIGITS = 16


local _M = {}

-- Answers of this worker: { answer, generation } by key, the keys with the oldest first, and their bytes.
local kept, order, kept_bytes = {}, {}, 0
local fleet
local warned


-- { get = function(key), put = function(key, bytes, ttl) }: shares answers with other nodes. Both are called in
-- timers, may yield, and may fail. What get() returns is verified here like any other answer.
function _M.set_fleet(functions)
    fleet = functions
end


-- The key of an answer about certificates of a CA (hexadecimal digits). It does not depend on the policy, except that
-- an answer of a server that was not verified is not used where it must be.
function _M.key(issuer, scope, kind, url, request, ssl_verify)
    local text = table.concat({ issuer, scope, kind, tostring(ssl_verify), url, request }, "\n")

    return issuer:sub(1, CA_DIGITS) .. ngx.md5(text)
end


local function generation_of(dict)
    return dict and dict:get(GENERATION) or 0
end


-- A number that flush() changes.
function _M.generation(dict_name)
    return generation_of(ngx.shared[dict_name])
end


-- When flush() was called last, in seconds since 1970.
function _M.flushed_at(dict_name)
    local dict = ngx.shared[dict_name]

    return dict and dict:get(FLUSHED) or 0
end


-- Whether an answer may prove a revocation.
local function is_evidence(answer)
    return answer.kind == SOURCE_CRL or answer.state == STATUS_REVOKED and not answer.hold
end


-- Whether an answer must not replace the known one, which is newer: a server that lags behind, or an attacker between,
-- may give a CRL from before a revocation. A date in the future says nothing about what is newer. An OCSP response
-- that revokes replaces any other.
local function is_outdated(answer, known)
    return answer.this_update < known.this_update and known.this_update <= answer.fetched + CLOCK_SKEW
           and (answer.kind == SOURCE_CRL or answer.state ~= STATUS_REVOKED)
end


-- What stands before the bytes of a kept answer.
local function head_of(answer, generation)
    local etag, modified = answer.etag or "", answer.last_modified or ""

    return ("%d %.0f %.0f %d %d %d %d %d %d\n"):format(answer.fetched, max(answer.this_update, -1),
                                                     min(answer.next_update, MAX_TIME), answer.kind, answer.state,
                                                     answer.hold and 1 or 0, generation, #etag, #modified)
           .. etag .. modified
end


-- An answer and its generation, from its head. `tail` returns what is behind a number of bytes.
local function decode(text, tail)
    local fetched, this_update, next_update, kind, state, hold, of, etag, modified, start = text:match(HEAD)
    if not fetched then
        return nil
    end

    etag, modified = tonumber(etag), tonumber(modified)
    local answer = {
        fetched = tonumber(fetched),
        this_update = tonumber(this_update),
        next_update = tonumber(next_update),
        kind = tonumber(kind),
        state = tonumber(state),
        hold = hold == "1",
        etag = etag > 0 and text:sub(start, start + etag - 1) or nil,
        last_modified = modified > 0 and text:sub(start + etag, start + etag + modified - 1) or nil,
        bytes = tail(start + etag + modified - 1),
    }

    return answer, tonumber(of)
end


-- The answer as it counts now, or nil. generation: that of the answer.
local function current(found, of, generation)
    local answer = {}
    for name, value in pairs(found) do
        answer[name] = value
    end

    if of ~= generation then
        if not is_evidence(answer) then
            return nil
        end

        -- It proves revocations, and must be fetched again for anything else.
        answer.fetched, answer.etag, answer.last_modified = 0, nil, nil
    end

    if answer.fetched > ngx_time() + CLOCK_TOLERANCE then
        -- The clock was set back since: its age is not known.
        answer.fetched = 0
    end

    return answer
end


local message = library.buffer(1024)
local reported


local function report_unwritten(text)
    if reported ~= ngx_time() then
        reported = ngx_time()
        ngx_log(ngx.WARN, "[mtls] state_dir: an answer is not kept: ", text)
    end
end


-- Writes an answer to state_dir: a large one later. Returns whether it is there, or will be.
local function write_file(key, head, bytes, evidence)
    local handle = engine.current().handle
    message.len = 0
    local status = C.rmtls_engine_write_answer(handle, key, #key, head, #head, bytes, #bytes, evidence and 1 or 0,
                                               message)
    if status ~= OK and status ~= NOT_FOUND then
        report_unwritten(message.len > 0 and library.text(message) or "error " .. status)
    end

    message.len = 0
    if C.rmtls_engine_answer_write_error(handle, message) == OK then
        report_unwritten(library.text(message))
    end

    return status == OK
end


local read_out = ffi.new("rmtls_answer*[1]")
local read_data, read_len = ffi.new("const uint8_t*[1]"), ffi.new("size_t[1]")


-- An answer from state_dir and its generation; nil if there is none, and nil, nil, true while it is being read.
local function read_file(key)
    if C.rmtls_engine_read_answer(engine.current().handle, key, #key, read_out) ~= OK then
        return nil
    end

    local file = read_out[0]
    if file == nil then
        return nil, nil, true
    end

    C.rmtls_answer_bytes(file, read_data, read_len)
    local data, len = read_data[0], tonumber(read_len[0])
    -- The bytes become a Lua string once: they may be large.
    local ok, answer, of = pcall(decode, ffi.string(data, min(len, MAX_HEAD)), function(start)
        return ffi.string(data + start, max(len - start, 0))
    end)
    C.rmtls_answer_free(file)

    return ok and answer or nil, ok and of or nil
end


local function drop(key)
    local entry = kept[key]
    if not entry then
        return
    end

    kept[key] = nil
    kept_bytes = kept_bytes - #entry.answer.bytes
    for i, other in ipairs(order) do
        if other == key then
            table.remove(order, i)
            break
        end
    end
end


local function keep_in_worker(key, answer, generation)
    drop(key)
    local size = #answer.bytes
    while kept_bytes > 0 and kept_bytes + size > MAX_WORKER_BYTES do
        drop(order[1])
    end

    kept[key] = { answer = answer, generation = generation }
    kept_bytes = kept_bytes + size
    order[#order + 1] = key
end


-- The kept answer: { bytes, kind, state, hold, fetched, this_update, next_update, etag, last_modified }; nil if there
-- is none, and nil, true while it is being read from its file.
function _M.get(dict_name, key)
    local dict = ngx.shared[dict_name]
    local generation = generation_of(dict)
    local text = dict and dict:get(PREFIX .. key)
    local of_worker = kept[key]
    -- The dictionary has the time of an answer that is in a file.
    local filed = text and tonumber(text:match("^@(%d+)$"))
    if of_worker and (not text or filed == of_worker.answer.fetched) then
        return current(of_worker.answer, of_worker.generation, generation)
    end

    local answer, of, reading
    if text and not filed then
        answer, of = decode(text, function(start)
            return text:sub(start + 1)
        end)
    else
        answer, of, reading = read_file(key)
    end

    if reading then
        return nil, true
    end

    if answer and (filed or not text) and #answer.bytes > MAX_FILE_AT_ONCE then
        keep_in_worker(key, answer, of)
    end

    return answer and current(answer, of, generation)
end


-- get() that waits while an answer is being read. Yields.
function _M.get_read(dict_name, key)
    local deadline = monotonic() + READING_TIMEOUT
    local answer, reading = _M.get(dict_name, key)
    while reading and monotonic() < deadline do
        ngx.sleep(READING_POLL)
        answer, reading = _M.get(dict_name, key)
    end

    return answer
end


-- Keeps an answer that the engine has verified, and whose fetch began in this generation, unless a newer one of the
-- source is kept. Yields.
function _M.put(dict_name, key, answer, generation)
    local dict = ngx.shared[dict_name]
    local known = _M.get_read(dict_name, key)
    -- A file may have it, which must not prove the revocation again after a restart.
    local was_evidence = known and is_evidence(known)
    if known and is_outdated(answer, known) then
        if known.next_update <= ngx_time() then
            return
        end

        -- The source was asked now, and has nothing newer.
        known.fetched = max(known.fetched, answer.fetched)
        answer = known
    end

    local evidence = is_evidence(answer)
    if not evidence and generation ~= generation_of(dict) then
        return
    end

    local ttl = 0
    if not evidence then
        ttl = min(answer.next_update - ngx_time(), MAX_TTL)
        if ttl <= 0 then
            return
        end
    end

    local head, bytes = head_of(answer, generation), answer.bytes
    drop(key)
    local stored
    if dict and #head + #bytes < dict:capacity() * MAX_PART then
        local text = head .. bytes
        stored = dict:safe_set(PREFIX .. key, text, ttl)
        if not stored and dict:flush_expired(100) > 0 then
            stored = dict:safe_set(PREFIX .. key, text, ttl)
        end

        -- Evidence of a revocation may evict other values.
        stored = stored or evidence and dict:set(PREFIX .. key, text, ttl)
    end

    -- The proof that a certificate is revoked outlives a restart too.
    local filed = (not stored or evidence or was_evidence) and write_file(key, head, bytes, evidence)
    if dict and not stored then
        if filed then
            dict:set(PREFIX .. key, "@" .. answer.fetched, ttl)
        else
            dict:delete(PREFIX .. key)
        end
    end

    if not stored then
        if not filed and dict then
            metrics.count("shortages_total", "dictionary")
            if not warned then
                warned = true
                ngx_log(ngx.WARN, "[mtls] lua_shared_dict ", dict_name, " takes no answer of ", #bytes,
                        " bytes: this worker keeps it for itself; make the dictionary larger, or set state_dir")
            end
        end

        keep_in_worker(key, answer, generation)
    end
end


function _M.has_fleet()
    return fleet ~= nil
end


-- Bytes that another node has fetched, or nil. Yields.
function _M.from_fleet(key)
    if fleet then
        local ok, bytes = pcall(fleet.get, key)

        return ok and type(bytes) == "string" and bytes or nil
    end
end


-- Gives other nodes an answer. Yields.
function _M.to_fleet(key, answer)
    if fleet then
        pcall(fleet.put, key, answer.bytes, max(1, min(answer.next_update - ngx_time(), MAX_TTL)))
    end
end


-- Forgets all answers, except that certificates are revoked.
function _M.flush(dict_name)
    local dict = ngx.shared[dict_name]
    if dict then
        dict:incr(GENERATION, 1, 0)
        dict:set(FLUSHED, ngx_time())
    else
        kept, order, kept_bytes = {}, {}, 0
    end
end


return _M
