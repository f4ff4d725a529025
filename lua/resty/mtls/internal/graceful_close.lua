-- Ends the connection of a refused request, so that the client makes a new handshake for its next one. Clients
-- that know no 421, and clients whose certificate is to be requested anew, would stay on the connection.
--
-- lua-nginx-module has no function for it, and neither a "Connection: close" header nor keepalive_timeout in the
-- location ends an HTTP/2 connection. So nginx's own functions for the end of a worker are called for this
-- one connection: GOAWAY is sent, open streams continue, and the connection is closed after the last one.
-- Where a function or variable is missing, or nginx's memory does not look as expected, the connection stays open.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local connection = require "resty.mtls.internal.connection"
local CONST = require "resty.mtls.internal.cdef"


local C = ffi.C
local L = library.C
local OK = CONST.OK
local ffi_cast = ffi.cast
local jit = jit
local ngx = ngx
local ngx_var = ngx.var
local pcall = pcall
local send_headers = ngx.send_headers
local ssl_pointer = connection.ssl
local timer_at = ngx.timer.at


-- Names of our own, because other Lua modules may declare nginx's with other types.
ffi.cdef [[
extern uintptr_t rmtls_nginx_exiting __asm__("ngx_exiting");
extern void *rmtls_nginx_cycle __asm__("ngx_cycle");
extern int rmtls_nginx_ssl_connection_index __asm__("ngx_ssl_connection_index");
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


local words = ffi.typeof("uintptr_t *")
local cycle = ffi.new("uintptr_t[?]", CYCLE_WORDS)
local number = ffi.new("uint32_t[1]")


local _M = {}


local function symbol(name)
    local found, value = pcall(function() return C[name] end)

    return found and value or nil
end


local has_exiting = symbol("rmtls_nginx_exiting") ~= nil
local has_cycle = symbol("rmtls_nginx_cycle") ~= nil
local has_connection = symbol("rmtls_nginx_ssl_connection_index") ~= nil and symbol("rmtls_openssl_get_ex_data") ~= nil
local close_idle_connections = symbol("rmtls_nginx_close_idle_connections")
local http_v3_shutdown = symbol("rmtls_nginx_http_v3_shutdown")


-- Sends the response header with "Connection: close" over HTTP/1.x, and has nginx close the connection after the
-- response. nginx does so in a worker that exits, and decides it while it writes the header. Header filters of
-- this one response take the worker for one that exits.
local function send_closing_headers()
    local exiting = C.rmtls_nginx_exiting
    C.rmtls_nginx_exiting = 1
    local sent, err = pcall(send_headers)
    C.rmtls_nginx_exiting = exiting
    if not sent then
        error(err, 0)
    end
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


-- Has nginx send GOAWAY, and close the connection after its last stream. Yields, so that GOAWAY precedes the response
-- and the next request of the client is not one more for this connection. Returns false with HTTP/1.x, where a header
-- of the response ends the connection.
function _M.begin_multiplexed()
    local protocol = ngx_var.server_protocol
    if protocol ~= "HTTP/2.0" and protocol ~= "HTTP/3.0" then
        return false
    end

    local is_http3 = protocol == "HTTP/3.0"
    local ssl = ssl_pointer()
    if ssl ~= nil and has_connection and (is_http3 and http_v3_shutdown or has_cycle and close_idle_connections)
        and L.rmtls_connection_watch(ssl, number) == OK and timer_at(0, shut_down, ssl, number[0], is_http3)
    then
        ngx.sleep(DELAY)
    end

    return true
end


-- Begins the end of the connection of this request. Call it before the response is sent. Returns the function that
-- sends the response header.
function _M.begin()
    if not _M.begin_multiplexed() and has_exiting then
        return send_closing_headers
    end

    return send_headers
end


return _M
