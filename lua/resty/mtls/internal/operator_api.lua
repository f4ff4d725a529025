-- The HTTP API of mtls-status.conf for the operator: blocks of certificates, and a flush of what is cached. JSON in and
-- out. The locations let in this machine only.
--
-- A web page in a browser of this machine could send requests too. Browsers mark them with Origin or Sec-Fetch-Site,
-- and ask before they send a body of type application/json to another site. A site whose name resolves to this machine
-- (DNS rebinding) is not another one to them, so the Host must not be such a name.

local blocks = require "resty.mtls.internal.blocks"


local ipairs = ipairs
local ngx = ngx
local pairs = pairs
local type = type

-- The fields of a body, with their types.
local FIELDS = {
    sha256 = "string",
    spki_sha256 = "string",
    serial = "string",
    issuer_dn = "string",
    seconds = "number",
    reason = "string",
}


local _M = {}


local function json()
    return require "cjson.safe"
end


local function answer(status, document)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.header["Cache-Control"] = "no-store"
    local body = document and json().encode(document) .. "\n" or ""
    ngx.header["Content-Length"] = status ~= 204 and #body or nil
    ngx.print(body)

    return ngx.exit(ngx.HTTP_OK)
end


local function refuse(status, message)
    return answer(status, { message = message })
end


-- Whether the method is one of these, and the request is not one of a browser. Otherwise it is answered.
local function is_admitted(methods)
    local method = ngx.req.get_method()
    for _, known in ipairs(methods) do
        if method == known then
            local host = (ngx.var.http_host or "localhost"):lower():gsub(":%d*$", "")
            if ngx.var.http_origin or ngx.var.http_sec_fetch_site then
                refuse(403, "a request of a browser")

                return false
            end

            if host ~= "localhost" and not host:find("^%d+%.%d+%.%d+%.%d+$") and not host:find("^%[[%x:.]+%]$") then
                refuse(403, "Host: expected an IP address or localhost")

                return false
            end

            return true
        end
    end

    ngx.header["Allow"] = table.concat(methods, ", ")
    refuse(405, method .. ", expected one of " .. table.concat(methods, ", "))

    return false
end


-- The fields of the body; nil and an error.
local function read_fields()
    local media_type = (ngx.var.content_type or ""):match("^%s*([^;%s]*)"):lower()
    if media_type ~= "application/json" then
        return nil, "Content-Type: expected application/json"
    end

    ngx.req.read_body()
    -- mtls-status.conf keeps bodies in memory, as long as they may be.
    local body = ngx.req.get_body_data()
    local document = body and json().decode(body)
    if type(document) ~= "table" then
        return nil, "the body: expected a JSON object"
    end

    local fields = {}
    for name, value in pairs(document) do
        local kind = FIELDS[name]
        if not kind then
            return nil, "unknown field '" .. tostring(name):gsub("%c", "?"):sub(1, 64)
                        .. "', expected sha256, spki_sha256, serial, issuer_dn, seconds or reason"
        end

        if type(value) ~= kind then
            return nil, name .. ": expected a " .. kind
        end

        fields[name] = value
    end

    return fields
end


local function shown(record)
    return {
        sha256 = record.sha256,
        spki_sha256 = record.spki_sha256,
        serial = record.serial,
        issuer_dn = record.issuer_dn,
        reason = record.reason,
        added = record.added,
        ["until"] = record.until_,
    }
end


-- content_by_lua*: GET lists the blocks, POST adds one with block(), DELETE removes one with unblock().
function _M.blocks(block, unblock)
    if not is_admitted { "GET", "HEAD", "POST", "DELETE" } then
        return
    end

    local method = ngx.req.get_method()
    if method == "GET" or method == "HEAD" then
        local list = {}
        for i, record in ipairs(blocks.list()) do
            list[i] = shown(record)
        end

        -- Not every lua-cjson can encode an empty table as a list.
        if not list[1] then
            ngx.header["Content-Type"] = "application/json"

            return ngx.say('{"blocks":[]}')
        end

        return answer(200, { blocks = list })
    end

    local fields, err = read_fields()
    if not fields then
        return refuse(400, err)
    end

    if method == "POST" then
        local ok
        ok, err = block(fields)
        if not ok then
            return refuse(400, err)
        end

        return answer(200, { blocked = true })
    end

    if fields.seconds or fields.reason then
        return refuse(400, "seconds and reason: expected none of them")
    end

    local removed
    removed, err = unblock(fields)
    if err then
        return refuse(400, err)
    end

    if not removed then
        return refuse(404, "no such block")
    end

    return answer(204)
end


-- content_by_lua*: POST calls flush().
function _M.flush(flush)
    if not is_admitted { "POST" } then
        return
    end

    flush()

    return answer(204)
end


return _M
