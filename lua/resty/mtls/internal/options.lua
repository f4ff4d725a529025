-- Checks of tables of options.

local error = error
local pairs = pairs
local tostring = tostring
local type = type


local _M = {}


-- Raises, at the level given, unless opts is a table whose names and types of values are those of `known`.
function _M.check(what, opts, known, level)
    if type(opts) ~= "table" then
        error(what .. ": expected a table of options, got " .. type(opts), level)
    end

    for name, value in pairs(opts) do
        if type(value) ~= known[name] then
            error(what .. ": option '" .. tostring(name) .. "' "
                  .. (known[name] and "must be a " .. known[name] .. ", got " .. type(value) or "is unknown"), level)
        end
    end
end


return _M
