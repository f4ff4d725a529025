-- Shortages of this machine: no connection, descriptor, port or memory is left, the dictionary is
-- full, no timer may be started. Such an error says nothing about the server that a fetch was for.
--
-- nginx reports most of them as the text of an errno. Where a worker has no connection left
-- (worker_connections), ngx_event_connect_peer() fails before connect() and a cosocket reports the
-- errno of whatever system call failed last: "operation now in progress", "connection refused", or
-- any other. So after an error of a connect that no timer ended, a UDP socket is opened to a
-- loopback address. It sends nothing, needs a descriptor and a connection, and fails without them.

local ffi = require "ffi"
local metrics = require "resty.mtls.internal.metrics"


local lower = string.lower
local ngx_log = ngx.log
local ngx_time = ngx.time
local udp = ngx.socket.udp

local WARN = ngx.WARN


ffi.cdef [[
char *strerror(int errnum);
]]


-- Of Linux, and of the BSDs where theirs differ.
local LINUX = ffi.os == "Linux"
local ENOMEM, ENFILE, EMFILE = 12, 23, 24
local EAGAIN = LINUX and 11 or 35
local EINPROGRESS = LINUX and 115 or 36
local EADDRNOTAVAIL = LINUX and 99 or 49
local ENOBUFS = LINUX and 105 or 55


-- In lower case, as cosockets report it.
local function text_of(errno)
    return lower(ffi.string(ffi.C.strerror(errno)))
end


local CONNECTIONS = "no connection is left (worker_connections)"
local DESCRIPTORS = "no file descriptor is left (worker_rlimit_nofile)"
local HOST_DESCRIPTORS = "no file descriptor is left on this host"
local MEMORY = "no memory is left"
local PORTS = "no local port is left"
local RANDOM = "no random numbers"

-- Label of the metric, by the text for the log.
local RESOURCES = {
    [CONNECTIONS] = "connections",
    [DESCRIPTORS] = "descriptors",
    [HOST_DESCRIPTORS] = "descriptors",
    [MEMORY] = "memory",
    [PORTS] = "ports",
    [RANDOM] = "random",
}

-- Errors that no peer causes, whatever the operation: of system calls, of lua-nginx-module, of
-- LuaJIT, and of dns.lua.
local ERRORS = {
    [text_of(EMFILE)] = DESCRIPTORS,
    [text_of(ENFILE)] = HOST_DESCRIPTORS,
    [text_of(ENOMEM)] = MEMORY,
    [text_of(ENOBUFS)] = MEMORY,
    ["no memory"] = MEMORY,
    ["failed to create ssl connection"] = MEMORY,
    ["not enough memory"] = MEMORY,
    [RANDOM] = RANDOM,
}

-- Errors of a connect only. The first two are of a connect that goes on, or of a UDP socket that
-- finds no port; the third is of an address or a port of this side.
local IN_PROGRESS = { [text_of(EAGAIN)] = true, [text_of(EINPROGRESS)] = true }
local NO_ADDRESS = text_of(EADDRNOTAVAIL)

local PROBE_ADDRESS, PROBE_PORT = "127.0.0.1", 9


local _M = {
    -- What http.request, shared_cache.get and dns.lookup return after such an error.
    KIND = "shortage",
}


local function found(text)
    if text then
        metrics.count("shortages_total", RESOURCES[text])
    end

    return text
end


-- What is short, in words, if the error of a cosocket is this machine's own; else nil. Counts it.
function _M.of(err)
    return found(ERRORS[err])
end


local function can_open(host, port)
    local sock = udp()
    local ok, err = sock:setpeername(host, port)
    if ok then
        sock:close()
    end

    return ok, err
end


-- The same for the error of a connect() or setpeername() to the address `host`. It must follow that
-- call without a yield.
function _M.of_connect(err, host, port)
    if ERRORS[err] or err == "timeout" then
        return found(ERRORS[err])
    end

    local ok, why = can_open(PROBE_ADDRESS, PROBE_PORT)
    if not ok then
        return found(ERRORS[why] or CONNECTIONS)
    end

    -- Where a host has no address of a family, no UDP socket of that family is connected either.
    if IN_PROGRESS[err] or err == NO_ADDRESS and can_open(host, port) then
        return found(PORTS)
    end
end


-- The same for a file that could not be opened: errno is the third result of io.open.
function _M.of_open(errno)
    return errno and found(ERRORS[text_of(errno)])
end


local reported_at


-- For a timer that ngx.timer.at() did not start, which the request does without: counts it, and logs
-- it at most once a second.
function _M.report_timer(text, err)
    if err == "process exiting" then
        return
    end

    metrics.count("shortages_total", "timers")
    local now = ngx_time()
    if reported_at ~= now then
        reported_at = now
        ngx_log(WARN, "[mtls] ", text, err)
    end
end


return _M
