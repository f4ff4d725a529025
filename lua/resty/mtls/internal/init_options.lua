-- What the options of mtls.init must be.

local cidr = require "resty.mtls.internal.net.cidr"


local _M = {}


local function is_text(value)
    return type(value) == "string" and value ~= "" and not value:find("%c")
end


local function is_boolean(value)
    return type(value) == "boolean"
end


local function is_absolute_path(value)
    return type(value) == "string" and value:sub(1, 1) == "/"
end


local function is_whole(value, min, max)
    return type(value) == "number" and value >= min and value <= max and value % 1 == 0
end


-- Of the option redis: what a field must be, and its test.
local REDIS_FIELDS = {
    host = { "a name or an address", is_text },
    port = { "a port", function(value)
        return is_whole(value, 1, 65535)
    end },
    unix = { "an absolute path", function(value)
        return is_text(value) and is_absolute_path(value)
    end },
    username = { "text on one line", is_text },
    password = { "text on one line", is_text },
    ssl = { "a boolean", is_boolean },
    ssl_verify = { "a boolean", is_boolean },
    database = { "a number of at least 0", function(value)
        return is_whole(value, 0, math.huge)
    end },
    prefix = { "text of at most 128 bytes on one line", function(value)
        return is_text(value) and #value <= 128
    end },
    required = { "a boolean", is_boolean },
    unblock_key = { "text of at least 32 bytes", function(value)
        return type(value) == "string" and #value >= 32
    end },
}

-- The same of the option certificate_spool.
local SPOOL_FIELDS = {
    directory = { "an absolute path of a directory", is_absolute_path },
    max_certificates = { "a whole number from 1 to 1000000", function(value)
        return is_whole(value, 1, 1000000)
    end },
    max_bytes = { "a whole number from 1 to 1099511627776", function(value)
        return is_whole(value, 1, 2 ^ 40)
    end },
}


local function unknown(name, known)
    local names = {}
    for known_name in pairs(known) do
        names[#names + 1] = known_name
    end

    table.sort(names)

    return "unknown option '" .. tostring(name) .. "', expected one of " .. table.concat(names, ", ")
end


local function check_fields(value, known)
    for name, given in pairs(value) do
        local field = known[name]
        if not field then
            return ": " .. unknown(name, known)
        end

        -- The value may be a secret.
        if not field[2](given) then
            return ": " .. name .. " must be " .. field[1]
        end
    end
end


local function check_cidrs(value, allow_unix)
    if type(value) ~= "table" then
        return " must be a table of CIDRs, got " .. type(value)
    end

    local _, err = cidr.parse(value, allow_unix)

    return err
end


local function got(value)
    return ", got " .. (type(value) == "string" and "'" .. value .. "'" or type(value))
end


local function must(expected, test)
    return function(value)
        return not test(value) and " must be " .. expected .. got(value) or nil
    end
end


-- By option, a function that returns what is wrong with a value, as it follows the name of the option.
local OPTIONS = {
    redis = function(value)
        if type(value) ~= "table" then
            return " must be a table of options, got " .. type(value)
        end

        local err = check_fields(value, REDIS_FIELDS)
        if err then
            return err
        end

        if (value.host == nil) == (value.unix == nil) then
            return " must have host or unix, and not both"
        end

        return value.username and not value.password and ": username needs a password" or nil
    end,

    policy = function(value)
        if type(value) ~= "string" and type(value) ~= "table" then
            return " must be a path, a list of paths or a table, got " .. type(value)
        end

        for index, path in ipairs(type(value) == "table" and value or {}) do
            if type(path) ~= "string" or path == "" then
                return "[" .. index .. "] must be a path, got " .. (path == "" and "''" or type(path))
            end
        end
    end,

    trusted_ips = function(value)
        return check_cidrs(value, true)
    end,

    fetch_allow = function(value)
        return check_cidrs(value)
    end,

    watch = function(value)
        if value ~= false and (type(value) ~= "number" or not (value > 0 and value <= 86400)) then
            return " must be a number of seconds over 0 and up to 86400, or false"
        end
    end,

    session_tickets = must("a boolean or 'auto'", function(value)
        return type(value) == "boolean" or value == "auto"
    end),

    certificate_spool = function(value)
        if type(value) == "table" then
            return check_fields(value, SPOOL_FIELDS) or not value.directory and " must have directory" or nil
        end

        if not is_absolute_path(value) then
            return " must be an absolute path of a directory or a table of options" .. got(value)
        end
    end,

    state_dir = must("an absolute path of a directory", is_absolute_path),

    refusals = must("'json' or 'nginx'", function(value)
        return value == "json" or value == "nginx"
    end),

    shared_dict = must("a string", function(value)
        return type(value) == "string"
    end),
}


-- What is wrong with the options, or nil.
function _M.check(opts)
    if type(opts) ~= "table" then
        return "expected a table of options, got " .. type(opts)
    end

    for name, value in pairs(opts) do
        local check = OPTIONS[name]
        if not check then
            return unknown(name, OPTIONS)
        end

        local err = check(value)
        if err then
            return name .. err
        end
    end

    return not opts.policy and "option policy is missing" or nil
end


return _M
