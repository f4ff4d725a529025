-- Checks of tables of options.


local _M = {}


-- Raises, at the level given, unless opts is a table whose keys are in `types` and whose values have the types that
-- `types` gives for them.
function _M.check(what, opts, types, level)
    if type(opts) ~= "table" then
        error(what .. ": expected a table of options, got " .. type(opts), level)
    end

    for name, value in pairs(opts) do
        if type(value) ~= types[name] then
            error(what .. ": option '" .. tostring(name) .. "' "
                  .. (types[name] and "must be a " .. types[name] .. ", got " .. type(value) or "is unknown"), level)
        end
    end
end


return _M
