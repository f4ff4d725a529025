-- Shortages of this machine: no connection, descriptor, port or memory is left, the dictionary is full, or no
-- timer can be started. Such an error does not mean that the server of a fetch has failed.
--
-- nginx reports most of them as the text of an errno. When a worker has no connection left
-- (worker_connections), ngx_event_connect_peer() fails before connect(), and a cosocket reports the errno of
-- whatever system call failed last: "operation now in progress", "connection refused", or any other. So after
-- a connect that failed without a time-out, a UDP socket to a loopback address is opened. It sends nothing,
-- needs a descriptor and a connection, and fails without them.

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


-- Numbers of Linux, and of the BSDs where they differ.
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

-- Labels of the metric, by the text in the log.
local RESOURCES = {
    [CONNECTIONS] = "connections",
    [DESCRIPTORS] = "descriptors",
    [HOST_DESCRIPTORS] = "descriptors",
    [MEMORY] = "memory",
    [PORTS] = "ports",
    [RANDOM] = "random",
}

-- Errors that no peer can cause, of any operation: of system calls, lua-nginx-module, LuaJIT, and dns.lua.
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

-- Errors of a connect only. The first two mean that it is in progress or that a UDP socket found no port; the
-- third is about an address or port of this machine.
local IN_PROGRESS = { [text_of(EAGAIN)] = true, [text_of(EINPROGRESS)] = true }
local NO_ADDRESS = text_of(EADDRNOTAVAIL)

local PROBE_ADDRESS, PROBE_PORT = "127.0.0.1", 9


local _M = {
    -- The kind that http.request, shared_cache.get and dns.lookup return with such an error.
    KIND = "shortage",
}


-- Counts a shortage.
local function counted(text)
    if text then
        metrics.count("shortages_total", RESOURCES[text])
    end

    return text
end


-- What this machine lacks, as a text, if that caused the error of a cosocket; else nil. Counts it.
function _M.of(err)
    return counted(ERRORS[err])
end


local function can_open(host, port)
    local sock = udp()
    local ok, err = sock:setpeername(host, port)
    if ok then
        sock:close()
    end

    return ok, err
end


-- The same for the error of a connect() or setpeername() to the address `host`. It must be called without a
-- yield after that.
function _M.of_connect(err, host, port)
    if ERRORS[err] or err == "timeout" then
        return counted(ERRORS[err])
    end

    local ok, why = can_open(PROBE_ADDRESS, PROBE_PORT)
    if not ok then
        return counted(ERRORS[why] or CONNECTIONS)
    end

    -- If this machine has no address of the family, connecting a UDP socket fails too.
    if IN_PROGRESS[err] or err == NO_ADDRESS and can_open(host, port) then
        return counted(PORTS)
    end
end


-- The same for a file that could not be opened: errno is the third result of io.open.
function _M.of_open(errno)
    return errno and counted(ERRORS[text_of(errno)])
end


local reported_at


-- Counts a timer that ngx.timer.at() could not start, and logs it at most once a second.
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
