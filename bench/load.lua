-- What wrk sends: wrk -s load.lua URL -- FILE each FIRST
--                 wrk -s load.lua URL -- FILE (random|new) FIRST LICENCES SEED
-- each: the requests of the file, separated by zero bytes, in turn from number FIRST on.
-- random, new: the one request of the file, its two numbers filled in: those of a random licence and of a device,
-- which is the licence's own or (new) one that was never there before: FIRST and upwards.

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

local function numbered(content, mode, first, licences, seed)
  math.randomseed(seed)
  local device = first
  return function()
    local licence = math.random(0, licences - 1)
    if mode == "new" then device = device + 1 else device = licence end
    return string.format(content, licence, device)
  end
end

function init(args)
  local content, mode, first = content_of(args[1]), args[2], tonumber(args[3])
  if mode == "each" then
    request_of = each(content, first)
  else
    request_of = numbered(content, mode, first, tonumber(args[4]), tonumber(args[5]))
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
