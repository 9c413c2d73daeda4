-- Polls tasks 1 to N in random order; ends with one line of JSON. Arguments: N, the token, and where polls are to be
-- conditional, the revision that all tasks are known to have.
-- wrk gives each thread its own Lua state; `init` gets what follows `--` on the command line.

local tasks, headers, revision

function init(args)
  tasks = tonumber(args[1])
  headers = { ["Authorization"] = "Bearer " .. args[2] }
  revision = args[3]
  math.randomseed(os.time())
end

function request()
  local task = math.random(tasks)
  if revision then
    headers["If-None-Match"] = '"' .. task .. "-" .. revision .. '"'
  end
  return wrk.format("GET", "/tasks/" .. task, headers)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "failed": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
