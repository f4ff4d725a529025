-- Ends the connection of a refused request, so that the client makes a new handshake for its next one. Clients
-- that know no 421, and clients whose certificate is to be requested anew, would stay on the connection.
--
-- lua-nginx-module has no function for it. A "Connection: close" header of the response is sent beside nginx's own
-- "Connection: keep-alive", and ends no connection of HTTP/1.x; neither does keepalive_timeout in the location end one
-- of HTTP/2. So nginx's own functions are called: over HTTP/1.x the one that decides whether a connection is kept, and
-- over HTTP/2 and HTTP/3 those for the end of a worker, for this one connection: GOAWAY is sent, open streams
-- continue, and the connection is closed after the last one.
--
-- Where a function or variable is missing, or nginx's memory does not look as expected, the connection stays open.

local ffi = require "ffi"
local base = require "resty.core.base"
local library = require "resty.mtls.internal.library"
local connection = require "resty.mtls.internal.connection"
local CONST = require "resty.mtls.internal.cdef"


local C = ffi.C
local L = library.C
local OK = CONST.OK
local ffi_cast = ffi.cast
local get_request = base.get_request
local jit = jit
local ngx = ngx
local ngx_var = ngx.var
local pcall = pcall
local ssl_pointer = connection.ssl
local timer_at = ngx.timer.at


-- Names of our own, because other Lua modules may declare nginx's with other types.
ffi.cdef [[
extern uintptr_t rmtls_nginx_current_msec __asm__("ngx_current_msec");
extern void *rmtls_nginx_cycle __asm__("ngx_cycle");
extern int rmtls_nginx_ssl_connection_index __asm__("ngx_ssl_connection_index");
void rmtls_nginx_http_update_location_config(void *r) __asm__("ngx_http_update_location_config");
void rmtls_nginx_close_idle_connections(void *cycle) __asm__("ngx_close_idle_connections");
void rmtls_nginx_http_v3_shutdown(void *c) __asm__("ngx_http_v3_shutdown");
void *rmtls_openssl_get_ex_data(const void *ssl, int index) __asm__("SSL_get_ex_data");
]]


-- Words of ngx_cycle_t that are copied; those from connection_n to write_events are among them in every version.
local CYCLE_WORDS = 80
-- More connections than any worker has.
local MAX_CONNECTIONS = 2 ^ 24
-- Seconds that a response waits for the GOAWAY, which a timer of 0 seconds sends.
local DELAY = 0.001
-- Seconds between the attempts to close the connection of a subrequest, which succeed when it is idle.
local IDLE_DELAYS = { 0.05, 0.5, 5, 50 }
-- Milliseconds, one more than the longest keepalive_time.
local AGE = 0x8000000000000000ULL


local words = ffi.typeof("uintptr_t *")
local cycle = ffi.new("uintptr_t[?]", CYCLE_WORDS)
local number = ffi.new("uint32_t[1]")


local _M = {}


local function symbol(name)
    local found, value = pcall(function() return C[name] end)

    return found and value or nil
end


local has_clock = symbol("rmtls_nginx_current_msec") ~= nil
local has_cycle = symbol("rmtls_nginx_cycle") ~= nil
local has_connection = symbol("rmtls_nginx_ssl_connection_index") ~= nil and symbol("rmtls_openssl_get_ex_data") ~= nil
local update_location_config = symbol("rmtls_nginx_http_update_location_config")
local close_idle_connections = symbol("rmtls_nginx_close_idle_connections")
local http_v3_shutdown = symbol("rmtls_nginx_http_v3_shutdown")


-- Has nginx send "Connection: close" with the response of this request over HTTP/1.x and close the connection after it,
-- also where the response is that of an error_page. nginx decides in each location whether the connection is kept,
-- among others by its age (keepalive_time, since 1.19.10), and never keeps one that an earlier location did not. Here
-- it decides again for the present location, as if the connection were older than any keepalive_time.
local function close_after_response()
    if not has_clock or not update_location_config then
        return
    end

    local now = C.rmtls_nginx_current_msec
    C.rmtls_nginx_current_msec = now + AGE
    update_location_config(get_request())
    C.rmtls_nginx_current_msec = now
end


-- Makes `cycle` a copy of nginx's cycle whose only connection is c, whose first words are data, read and write.
-- Returns false if the fields are not found: connection_n, files_n, connections, read_events, write_events. The
-- events of a connection have its index in the arrays of events.
local function select_connection(c)
    local current = ffi_cast(words, C.rmtls_nginx_cycle)
    local address = ffi_cast("uintptr_t", c)
    local fields = ffi_cast(words, c)
    local read_event, write_event = fields[1], fields[2]
    ffi.copy(cycle, current, CYCLE_WORDS * ffi.sizeof("uintptr_t"))
    for i = 2, CYCLE_WORDS - 3 do
        if cycle[i + 2] - cycle[i + 1] == write_event - read_event and cycle[i + 1] <= read_event
            and cycle[i] <= address and cycle[i] ~= 0 and cycle[i - 2] > 0 and cycle[i - 2] < MAX_CONNECTIONS
        then
            cycle[i - 2] = 1
            cycle[i] = address

            return true
        end
    end

    return false
end


-- In a timer and not in the request: nginx may find while it sends GOAWAY that the client has gone, and then
-- ends the requests of the connection.
local function shut_down(premature, ssl, watched, is_http3)
    if premature or L.rmtls_connection_is_open(watched) ~= OK then
        return
    end

    local c = C.rmtls_openssl_get_ex_data(ssl, C.rmtls_nginx_ssl_connection_index)
    if c == nil then
        return
    end

    if is_http3 then
        http_v3_shutdown(c)
    elseif select_connection(c) then
        close_idle_connections(cycle)
    end
end


-- nginx may end requests here, and runs their Lua code then. Compiled code must not call a C function that
-- runs Lua code: LuaJIT would not find its stack as it left it.
jit.off(shut_down)


-- Closes the connection of a subrequest over HTTP/1.x once no request is on it. Whether nginx keeps the connection
-- after a response is a property of the main request, which Lua does not find from its subrequest.
local function close_if_idle(premature, ssl, watched, attempt)
    shut_down(premature, ssl, watched, false)
    local delay = IDLE_DELAYS[attempt]
    if not premature and delay and L.rmtls_connection_is_open(watched) == OK then
        timer_at(delay, close_if_idle, ssl, watched, attempt + 1)
    end
end


-- Begins the end of the connection of this request. Call it before the response is sent. Yields with HTTP/2 and
-- HTTP/3, so that GOAWAY precedes the response and the next request of the client is not one more for this connection.
function _M.begin()
    local protocol = ngx_var.server_protocol
    local is_multiplexed = protocol == "HTTP/2.0" or protocol == "HTTP/3.0"
    if not is_multiplexed and not ngx.is_subrequest then
        return close_after_response()
    end

    local is_http3 = protocol == "HTTP/3.0"
    local ssl = ssl_pointer()
    if ssl == nil or not has_connection or not (is_http3 and http_v3_shutdown or has_cycle and close_idle_connections)
        or L.rmtls_connection_watch(ssl, number) ~= OK
    then
        return
    end

    if not is_multiplexed then
        timer_at(0, close_if_idle, ssl, number[0], 1)

    elseif timer_at(0, shut_down, ssl, number[0], is_http3) then
        ngx.sleep(DELAY)
    end
end


return _M
