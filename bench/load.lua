-- What wrk sends: wrk -s load.lua URL -- FILE each FIRST
--                 wrk -s load.lua URL -- FILE (random|new|pair) FIRST LICENCES SEED LOWEST HOT
-- each: the requests of the file, separated by zero bytes, in turn from number FIRST on.
-- random, new: the one request of the file, its two numbers filled in: those of a random licence and of a device,
-- which is the licence's own or (new) one that was never there before: FIRST and upwards.
-- pair: two requests of the file in turn, for the same licence and the same new device; for one connection only.
-- Licences are numbered from LOWEST on. Where HOT is not 0, nine requests of ten are for the first HOT of them.

local request_of

local function content_of(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

local function each(content, first)
  local requests = {}
  for one in content:gmatch("[^%z]+") do requests[#requests + 1] = one end
  local at = first
  return function()
    at = at % #requests + 1
    return requests[at]
  end
end

local function any_of(licences, seed, lowest, hot)
  math.randomseed(seed)
  return function()
    if hot > 0 and math.random() < 0.9 then return lowest + math.random(0, hot - 1) end
    return lowest + math.random(0, licences - 1)
  end
end

local function numbered(content, mode, first, licence_of)
  local device = first
  return function()
    local licence = licence_of()
    if mode == "new" then device = device + 1 else device = licence end
    return string.format(content, licence, device)
  end
end

local function pair(content, first, licence_of)
  local opening, closing = content:match("([^%z]+)%z([^%z]+)")
  local licence, device, sent = licence_of(), first, -1
  return function()
    -- wrk asks once before it begins, to look at the request, and does not send that one.
    sent = sent + 1
    if sent % 2 == 1 then licence, device = licence_of(), device + 1 end
    return string.format(sent % 2 == 1 and opening or closing, licence, device)
  end
end

function init(args)
  local content, mode, first = content_of(args[1]), args[2], tonumber(args[3])
  if mode == "each" then
    request_of = each(content, first)
  else
    local licence_of = any_of(tonumber(args[4]), tonumber(args[5]), tonumber(args[6]), tonumber(args[7]))
    request_of = mode == "pair" and pair(content, first, licence_of) or numbered(content, mode, first, licence_of)
  end
end

function request() return request_of() end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50": %f, "p99": %f, "mean": %f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.mean / 1e3))
end
