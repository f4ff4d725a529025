-- Writes the metrics of this node: in the text format of Prometheus, and as a table.

local families = require "resty.mtls.internal.metric_families"
local metrics = require "resty.mtls.internal.metrics"


local concat = table.concat

local PREFIX = "resty_mtls_"
local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }


local _M = {}


-- { [family name] = { [joined label values] = number, or { [bucket] = number } } }
local function samples()
    local found = {}
    for _, family in ipairs(families.list) do
        local sets = {}
        found[family.name] = sets
        for _, labels in ipairs(family.zero or {}) do
            sets[concat(labels, families.SEPARATOR)] = 0
        end
    end

    for key, value in pairs(metrics.values()) do
        local name, set = key:match("^([^%z]*)%z?(.*)$")
        local family = families.by_name[name]
        local sets = found[name]
        if family and family.buckets then
            local bucket
            set, bucket = set:match("^(.*)%z([^%z]*)$")
            sets[set] = sets[set] or {}
            sets[set][bucket] = value
        elseif family then
            sets[set] = value
        end
    end

    return found
end


-- The label values of a family: { value, ... }
local function split(family, set)
    local values = {}
    for value in (family.labels[1] and set .. families.SEPARATOR or ""):gmatch("([^%z]*)%z") do
        values[#values + 1] = value
    end

    return values
end


local function number(value)
    if value % 1 == 0 and value < 2 ^ 53 then
        return ("%d"):format(value)
    end

    return ("%.15g"):format(value)
end


-- label="value",label="value"
local function labels_of(family, set)
    local labels = {}
    for i, value in ipairs(split(family, set)) do
        labels[i] = family.labels[i] .. '="' .. value:gsub('[\\"\n]', ESCAPES) .. '"'
    end

    return concat(labels, ",")
end


local function sorted_keys(sets)
    local names = {}
    for set in pairs(sets) do
        names[#names + 1] = set
    end

    table.sort(names)

    return names
end


-- The buckets of a histogram, each with those before it, as Prometheus has them: { { bound, count }, ... }; and the
-- count of all.
local function cumulate(family, value)
    local buckets, count = {}, 0
    for i = 1, #family.buckets + 1 do
        local bound = tostring(family.buckets[i] or "+Inf")
        count = count + (value[bound] or 0)
        buckets[i] = { bound = bound, count = count }
    end

    return buckets, count
end


-- All metrics in the text format of Prometheus, version 0.0.4.
function _M.text()
    local found = samples()
    local lines = {}
    local function line(...)
        lines[#lines + 1] = concat { ... }
    end

    for _, family in ipairs(families.list) do
        local name, sets = PREFIX .. family.name, found[family.name]
        line("# HELP ", name, " ", family.help)
        line("# TYPE ", name, " ", family.type)
        for _, set in ipairs(sorted_keys(sets)) do
            local value, labels = sets[set], labels_of(family, set)
            local braced = labels == "" and "" or "{" .. labels .. "}"
            if family.buckets then
                local buckets, count = cumulate(family, value)
                for _, bucket in ipairs(buckets) do
                    line(name, "_bucket{", labels, ',le="', bucket.bound, '"} ', number(bucket.count))
                end

                line(name, "_sum", braced, " ", number(value.sum or 0))
                line(name, "_count", braced, " ", number(count))
            else
                line(name, braced, " ", number(value))
            end
        end
    end

    line("")

    return concat(lines, "\n")
end


-- The same as tables: { requests_total = { payments = { pass = 3 } }, ... }. A histogram is { count, sum }.
function _M.table()
    local all = {}
    for name, sets in pairs(samples()) do
        local family = families.by_name[name]
        for set, value in pairs(sets) do
            if family.buckets then
                local _, count = cumulate(family, value)
                value = { count = count, sum = value.sum or 0 }
            end

            local at, key = all, name
            for _, part in ipairs(split(family, set)) do
                at[key] = at[key] or {}
                at, key = at[key], part
            end

            at[key] = value
        end
    end

    return all
end


return _M
