-- The HTTP API of mtls-status.conf for the operator: the page, status and metrics, parts of the policy, blocks of
-- certificates, and a flush of what is cached. JSON in and out, but for the page and the metrics. The locations let in
-- this machine only.
--
-- A web page in a browser of this machine could send requests too. Browsers mark them with Origin or Sec-Fetch-Site,
-- and ask before they send a body of type application/json to another site, so what is marked must come from this
-- server itself. A site whose name resolves to this machine (DNS rebinding) is not another one to them, and over plain
-- HTTP they do not mark its requests at all. So the Host must be no name but localhost and the server_name, which the
-- operator has chosen.

local blocks = require "resty.mtls.internal.blocks"
local engine = require "resty.mtls.internal.engine"
local operator_page = require "resty.mtls.internal.operator_page"
local CONST = require "resty.mtls.internal.cdef"


-- The fields of a body, with their types.
local FIELDS = {
    sha256 = "string",
    spki_sha256 = "string",
    serial = "string",
    issuer_dn = "string",
    seconds = "number",
    reason = "string",
}

-- Of /mtls/policy: the method of the engine for each list.
local LISTS = { routes = "list_routes", server_names = "list_server_names" }
local DEFAULT_LIMIT = 100
local MAX_FILTER = 255


local _M = {}


local function json()
    return require "cjson.safe"
end


local function send(status, body)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.header["Cache-Control"] = "no-store"
    ngx.header["X-Content-Type-Options"] = "nosniff"
    ngx.header["Content-Length"] = status ~= 204 and #body or nil
    ngx.print(body)

    return ngx.exit(ngx.HTTP_OK)
end


local function answer(status, document)
    return send(status, document and json().encode(document) .. "\n" or "")
end


local function refuse(status, message)
    return answer(status, { message = message })
end


-- Whether a request comes from no page of another site. by_user: whether one that the user entered may pass too.
local function is_of_this_site(by_user)
    local host, origin, site = ngx.var.http_host or "", ngx.var.http_origin, ngx.var.http_sec_fetch_site
    if site and site ~= "same-origin" and not (by_user and site == "none") then
        return false
    end

    return not origin or origin:lower() == (ngx.var.scheme .. "://" .. host):lower()
end


-- Whether the Host is an IP address, localhost or the first server_name. Any other name may be that of a site which
-- resolves to this machine.
local function is_own_host()
    local host = (ngx.var.http_host or "localhost"):lower():gsub(":%d*$", "")
    if host == "localhost" or host:find("^%d+%.%d+%.%d+%.%d+$") or host:find("^%[[%x:.]+%]$") then
        return true
    end

    -- Without a server_name this is "".
    return host ~= "" and host == ngx.var.server_name:lower()
end


-- Whether the method is one of these, and the request is none of another site: "own", "user" as above, "any" where a
-- link of another site may lead to. Otherwise it is answered.
local function is_admitted(methods, sites)
    local method = ngx.req.get_method()
    for _, known in ipairs(methods) do
        if method == known then
            if sites ~= "any" and not is_of_this_site(sites == "user") then
                refuse(403, "a request of another site")

                return false
            end

            if not is_own_host() then
                refuse(403, "Host: expected an IP address, localhost or the server_name")

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
        if kind and type(value) ~= kind then
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
    if not is_admitted({ "GET", "HEAD", "POST", "DELETE" }, "own") then
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
            return send(200, '{"blocks":[]}\n')
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
    if not is_admitted({ "POST" }, "own") then
        return
    end

    flush()

    return answer(204)
end


-- content_by_lua*: the page.
function _M.page()
    if not is_admitted({ "GET", "HEAD" }, "any") then
        return
    end

    local page, headers = operator_page.get()
    if not page then
        ngx.log(ngx.ERR, "[mtls] ", headers)

        return refuse(500, "the page cannot be read, see the error log")
    end

    for name, value in pairs(headers) do
        ngx.header[name] = value
    end

    ngx.header["Content-Length"] = #page

    return ngx.print(page)
end


-- content_by_lua*: what status() returns.
function _M.status(status)
    if not is_admitted({ "GET", "HEAD" }, "user") then
        return
    end

    local document = status()
    local text, err = json().encode(document)
    if not text then
        error("status: " .. err)
    end

    -- Not every lua-cjson can encode an empty table as a list. Inside a text, quotes have a backslash.
    if not document.warnings[1] then
        text = text:gsub('"warnings":{}', '"warnings":[]')
    end

    return send(200, text .. "\n")
end


-- content_by_lua*: the text that metrics() returns. A page of another site cannot read it, and a link may lead to it,
-- such as that on Prometheus's page of targets.
function _M.metrics(metrics)
    if not is_admitted({ "GET", "HEAD" }, "any") then
        return
    end

    ngx.header["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
    ngx.header["Cache-Control"] = "no-store"
    ngx.header["X-Content-Type-Options"] = "nosniff"
    ngx.header["Cross-Origin-Resource-Policy"] = "same-origin"

    return ngx.print(metrics())
end


local function integer(text, min, max)
    local number = #text <= 9 and text:find("^%d+$") and tonumber(text)

    return number and number >= min and number <= max and number
end


-- The parameters of /mtls/policy: what reads a value, and what is expected.
local PARAMETERS = {
    from = { function(text)
        return integer(text, 0, 999999999)
    end, "a number of at most 9 digits" },
    limit = { function(text)
        return integer(text, 1, CONST.MAX_LISTED)
    end, "a number from 1 to " .. CONST.MAX_LISTED },
    filter = { function(text)
        return #text <= MAX_FILTER and text
    end, "text of at most " .. MAX_FILTER .. " bytes" },
    list = { function(text)
        return LISTS[text] and text
    end, "routes or server_names" },
}


-- The parameters of the request; nil and an error.
local function read_parameters()
    local parameters = { from = 0, limit = DEFAULT_LIMIT, filter = "" }
    for name, value in pairs(ngx.req.get_uri_args(10)) do
        local parameter = PARAMETERS[name]
        if not parameter then
            return nil, "unknown parameter '" .. tostring(name):gsub("%c", "?"):sub(1, 64)
                        .. "', expected list, from, limit or filter"
        end

        local read = type(value) == "string" and parameter[1](value)
        if not read then
            return nil, name .. ": expected " .. parameter[2]
        end

        parameters[name] = read
    end

    return parameters
end


-- content_by_lua*: routes and server names of the policy in force, a page of them.
function _M.policy()
    if not is_admitted({ "GET", "HEAD" }, "user") then
        return
    end

    local parameters, err = read_parameters()
    if not parameters then
        return refuse(400, err)
    end

    local current = engine.current()
    local status = current:status()
    if not status then
        return refuse(503, "no policy is in force in this worker")
    end

    local parts = { ('"epoch":%d,"digest":"%s"'):format(status.epoch, status.digest) }
    for list, read in pairs(LISTS) do
        if not parameters.list or parameters.list == list then
            local text = current[read](current, parameters.from, parameters.limit, parameters.filter)
            if not text then
                return refuse(400, "filter: expected text in UTF-8")
            end

            parts[#parts + 1] = '"' .. list .. '":' .. text
        end
    end

    return send(200, "{" .. table.concat(parts, ",") .. "}\n")
end


return _M
