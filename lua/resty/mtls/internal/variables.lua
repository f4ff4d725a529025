-- nginx variables for log_format, map and proxy_set_header, which nginx-conf/mtls-variables.conf declares.
-- Only those that the configuration uses are set: each costs a request about a microsecond.

local library = require "resty.mtls.internal.library"


local X509_V_OK = library.X509_V_OK
local concat = table.concat
local gsub = string.gsub
local date = os.date
local ngx = ngx
local ngx_var = ngx.var
local pcall = pcall
local type = type


local function time(epoch)
    return epoch and date("!%Y-%m-%dT%H:%M:%SZ", epoch)
end


-- Joins values with commas; commas inside a value are escaped.
local function join(values)
    local escaped = {}
    for i = 1, #values do
        escaped[i] = gsub(values[i], "[\\,]", "\\%0")
    end

    return concat(escaped, ", ")
end


-- All values of an attribute of the subject.
local function attribute(client, name)
    local values = client.subject and client.subject[name]

    return values and join(values)
end


-- "" for a value with control characters: nginx writes them, line feeds included, into headers and logs.
local function without_controls(value)
    if type(value) ~= "string" or value:find("[%z\1-\31\127]") then
        return ""
    end

    return value
end


-- Values that depend on the client and its verdict alone.
local OF_CLIENT = {
    mtls_verify = function(client) return client.verified end,
    mtls_subject_dn = function(client) return client.subject_dn end,
    mtls_issuer_dn = function(client) return client.issuer_dn end,
    mtls_serial = function(client) return client.serial end,
    mtls_fingerprint_sha1 = function(client) return client.fingerprint_sha1 end,
    mtls_fingerprint_sha256 = function(client) return client.fingerprint_sha256 end,
    mtls_not_before = function(client) return time(client.not_before) end,
    mtls_not_after = function(client) return time(client.not_after) end,
    mtls_subject_cn = function(client) return attribute(client, "CN") end,
    mtls_subject_o = function(client) return attribute(client, "O") end,
    mtls_subject_ou = function(client) return attribute(client, "OU") end,
    mtls_san = function(client) return client:header_value("kong", "client_cert_san") end,
    mtls_cert = function(client) return client:header_value("kong", "client_cert") end,
    mtls_chain = function(client) return client:header_value("kong", "client_cert_chain") end,
    mtls_source = function(client) return client.source end,
    mtls_groups = function(client) return join(client.groups) end,

    mtls_consumer = function(client)
        local consumer = client.consumer

        return consumer and (consumer.username or consumer.custom_id or consumer.id)
    end,

    mtls_consumer_id = function(client) return client.consumer and client.consumer.id end,
}


-- Of a request without a certificate.
local NONE = { mtls_verify = "NONE" }

-- Of requests with something that could not be read as a certificate, by verdict.
local unreadable = {}


local function add_unreadable(verdict)
    unreadable[verdict] = { mtls_verify = library.verdict_text(verdict) }

    return unreadable[verdict]
end


-- Names that the configuration uses; nil until find_used() has run.
local used
local uses_route
local uses_decision
local uses_reason
local uses_any


local function assign(name, value)
    ngx_var[name] = value
end


-- Assigning a variable fails unless some directive uses it.
local function find_used()
    used = {}
    for name in pairs(OF_CLIENT) do
        if pcall(assign, name, "") then
            used[#used + 1] = name
        end
    end

    uses_route = pcall(assign, "mtls_route_name", "")
    uses_decision = pcall(assign, "mtls_decision", "")
    uses_reason = pcall(assign, "mtls_reason", "")
    uses_any = #used > 0 or uses_route or uses_decision or uses_reason
end


local _M = {}


-- Sets the variables of this request. client_of(engine) returns its client or nil.
--
-- A subrequest shares the variables of its main request, which they describe.
function _M.set(engine, route, decision, reason, verdict, client_of)
    if not used then
        find_used()
    end

    if not uses_any or ngx.is_subrequest then
        return
    end

    if uses_route then
        ngx_var.mtls_route_name = route
    end

    if uses_decision then
        ngx_var.mtls_decision = decision
    end

    if uses_reason then
        ngx_var.mtls_reason = reason
    end

    if #used == 0 then
        return
    end

    local client = client_of(engine)
    local values = NONE
    if client then
        values = client.variables
        if not values then
            values = {}
            for i = 1, #used do
                values[used[i]] = without_controls(OF_CLIENT[used[i]](client))
            end

            client.variables = values
        end
    elseif verdict > X509_V_OK then
        values = unreadable[verdict] or add_unreadable(verdict)
    end

    for i = 1, #used do
        ngx_var[used[i]] = values[used[i]] or ""
    end
end


return _M
