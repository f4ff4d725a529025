-- Reads HTTP/1.1 responses from a connection, with a limit for each part of them.
--
-- A connection has the fields sock and deadline, and what was received: buffer from position on. Its field shortage is
-- true where this machine lacked something, and unusable where the response was too large or could not be decoded.

local library = require "resty.mtls.internal.library"
local shortage = require "resty.mtls.internal.shortage"
local tcp = require "resty.mtls.internal.net.tcp"
local url = require "resty.mtls.internal.net.url"


local C = library.C
local concat = table.concat
local find = string.find
local floor = math.floor
local lower = string.lower
local printable = url.printable
local sub = string.sub

-- Bytes
local MAX_HEADER = 16384
local MAX_CHUNK_LINE = 256
local MAX_INTERIM = 5
-- Most bytes of one receive, and the bytes after which other requests of the worker get a turn.
local RECEIVE_SIZE = 16384
local MAX_BURST = 131072


local _M = {}


-- A connection, whose field sock is set once it is connected.
function _M.new(deadline)
    return { deadline = deadline, buffer = "", position = 1, burst = 0 }
end


function _M.send(conn, data)
    local ok, err = tcp.set_timeout(conn)
    if ok then
        ok, err = conn.sock:send(data)
        conn.shortage = conn.shortage or not ok and shortage.of(err)
    end

    return ok, err
end


-- Receives more bytes into the buffer. It is the only function that reads from the socket. receiveany() takes
-- all bytes that are there, so that none stays in the cosocket's own buffer, and returns after the first
-- one, so that a slow peer meets the deadline.
local function receive_more(conn)
    if conn.burst >= MAX_BURST then
        conn.burst = 0
        -- On nginx without OpenResty's patches, sleep(0) returns before the event loop polls any socket.
        ngx.sleep(0.001)
    end

    local ok, err = tcp.set_timeout(conn)
    if not ok then
        return nil, err
    end

    local data
    data, err = conn.sock:receiveany(RECEIVE_SIZE)
    if not data then
        conn.shortage = conn.shortage or shortage.of(err)

        return nil, err
    end

    conn.burst = conn.burst + #data
    conn.buffer = conn.position > #conn.buffer and data or sub(conn.buffer, conn.position) .. data
    conn.position = 1

    return true
end


-- Reads up to and including `mark`. Returns what precedes it, or nil and an error.
local function read_until(conn, mark, limit, what)
    while true do
        local first, last = find(conn.buffer, mark, conn.position, true)
        local size = (first or #conn.buffer + 1) - conn.position
        -- While the mark is not found, all but its last byte may be in the buffer.
        if size > (first and limit or limit + #mark - 1) then
            return nil, what .. " is over " .. limit .. " bytes"
        end

        if first then
            local text = sub(conn.buffer, conn.position, first - 1)
            conn.position = last + 1
            return text
        end

        local ok, err = receive_more(conn)
        if not ok then
            return nil, err == "closed" and "connection closed within the " .. what or err
        end
    end
end


-- Keeps a part of the body, or passes it on where the caller takes it.
local function add_part(conn, parts, part)
    if conn.sink then
        conn.sink(part)
    else
        parts[#parts + 1] = part
    end
end


-- Appends the next n bytes to parts.
local function read_bytes(conn, n, parts)
    while n > 0 do
        if conn.position > #conn.buffer then
            local ok, err = receive_more(conn)
            if not ok then
                return nil, err == "closed" and "connection closed within the body" or err
            end
        end

        local part = sub(conn.buffer, conn.position, conn.position + n - 1)
        conn.position = conn.position + #part
        n = n - #part
        add_part(conn, parts, part)
    end

    return true
end


local function too_large(conn, max_bytes)
    conn.unusable = true

    return "body is over " .. max_bytes .. " bytes"
end


local function read_chunked(conn, max_bytes)
    local too_much_framing = "body has more chunk framing than is allowed for " .. max_bytes .. " bytes"
    local parts, size = {}, 0
    -- Bytes of chunk sizes, extensions and trailers, which are limited separately from those of the body.
    local framing = MAX_HEADER + floor(max_bytes / 4)

    while true do
        local line, err = read_until(conn, "\r\n", MAX_CHUNK_LINE, "chunk size")
        if not line then
            return nil, err
        end

        local digits = line:match("^(%x+)[ \t]*$") or line:match("^(%x+)[ \t]*;")
        if not digits then
            return nil, "chunk size '" .. printable(line) .. "' is malformed"
        end

        framing = framing - #line - 4
        if framing < 0 then
            return nil, too_much_framing
        end

        digits = digits:gsub("^0+", "")
        if #digits > 8 then
            return nil, too_large(conn, max_bytes)
        end

        local n = tonumber("0" .. digits, 16)
        size = size + n
        if size > max_bytes then
            return nil, too_large(conn, max_bytes)
        end

        if n == 0 then
            break
        end

        local ok
        ok, err = read_bytes(conn, n, parts)
        if not ok then
            return nil, err
        end

        local ending
        ending, err = read_until(conn, "\r\n", 0, "chunk")
        if not ending then
            return nil, err == "chunk is over 0 bytes" and "chunk is longer than its size" or err
        end
    end

    repeat
        local line, err = read_until(conn, "\r\n", MAX_HEADER, "trailer")
        if not line then
            return nil, err
        end

        framing = framing - #line - 2
        if framing < 0 then
            return nil, too_much_framing
        end
    until line == ""

    return concat(parts)
end


local function read_to_end(conn, max_bytes)
    local parts, size = {}, 0
    while true do
        local part = sub(conn.buffer, conn.position)
        conn.position = #conn.buffer + 1
        size = size + #part
        if size > max_bytes then
            return nil, too_large(conn, max_bytes)
        end

        add_part(conn, parts, part)
        local ok, err = receive_more(conn)
        if err == "closed" then
            return concat(parts)
        end

        if not ok then
            return nil, err
        end
    end
end


-- The status and the header (names in lower case, repeated ones joined); or nil and an error.
function _M.read_header(conn)
    local head, err = read_until(conn, "\r\n\r\n", MAX_HEADER, "header")
    if not head then
        return nil, err
    end

    local first, rest = (head .. "\r\n"):match("^(.-)\r\n(.*)$")
    local version, status, reason = first:match("^HTTP/1%.([01]) ([1-5]%d%d)(.*)$")
    if not version or not find(reason, "^$") and not find(reason, "^ [^%c]*$") then
        return nil, "response begins with '" .. printable(first) .. "', expected HTTP/1.0 or HTTP/1.1 and a status"
    end

    local headers = {}
    for line in rest:gmatch("(.-)\r\n") do
        local name, value = line:match("^([%w!#$%%&'*+.^_`|~-]+):[ \t]*(.-)[ \t]*$")
        if not name or find(value, "[%z\r\n]") then
            return nil, "header line '" .. printable(line) .. "' is malformed"
        end

        name = lower(name)
        headers[name] = headers[name] and headers[name] .. ", " .. value or value
    end

    return tonumber(status), headers, version
end


-- The body without its content coding, or nil and an error. Servers send gzip even if it was not requested.
local function decode(conn, body, coding, max_bytes)
    if coding ~= "gzip" and coding ~= "x-gzip" or body == "" then
        return body
    end

    local message = library.buffer(256)
    local decoded, err = library.read("gzip", function(out)
        return C.rmtls_gzip_decode(body, #body, max_bytes, out, message)
    end)
    if not decoded then
        conn.unusable = true

        return nil, message.len > 0 and library.text(message) or err
    end

    return decoded
end


local function read_body(conn, status, headers, version, max_bytes)
    if status == 204 or status == 304 then
        return ""
    end

    local length = headers["content-length"]
    local coding = headers["transfer-encoding"]
    if coding then
        if lower(coding) ~= "chunked" or version ~= "1" then
            return nil, "transfer-encoding '" .. printable(coding) .. "' in HTTP/1." .. version
                        .. " is not supported, expected chunked in HTTP/1.1"
        end

        if length then
            return nil, "header has both content-length and transfer-encoding"
        end

        return read_chunked(conn, max_bytes)
    end

    if not length then
        return read_to_end(conn, max_bytes)
    end

    if not find(length, "^%d+$") then
        return nil, "content-length '" .. printable(length) .. "' is no number"
    end

    local n = tonumber(length)
    if n > max_bytes then
        return nil, too_large(conn, max_bytes)
    end

    local parts = {}
    local ok, err = read_bytes(conn, n, parts)
    if not ok then
        return nil, err
    end

    return concat(parts)
end


-- { status, headers, body }, or nil and an error. sink: as in http.request().
function _M.read_response(conn, max_bytes, sink)
    for _ = 1, MAX_INTERIM do
        local status, headers, version = _M.read_header(conn)
        if not status then
            return nil, headers
        end

        if status == 101 then
            return nil, "response switches protocols"
        end

        if status >= 200 then
            local content_coding = lower(headers["content-encoding"] or "identity")
            if content_coding ~= "identity" and content_coding ~= "gzip" and content_coding ~= "x-gzip" then
                return nil, "content-encoding '" .. printable(content_coding) .. "' was not requested"
            end

            conn.sink = status == 200 and content_coding == "identity" and sink or nil
            local body, err = read_body(conn, status, headers, version, max_bytes)
            if body then
                body, err = decode(conn, body, content_coding, max_bytes)
            end

            if not body then
                return nil, err
            end

            return { status = status, headers = headers, body = body }
        end
    end

    return nil, "more than " .. MAX_INTERIM .. " interim responses"
end


return _M
