-- The licensed twin of core/storm.py's Guard.observe, for all processes of one policy; a property test holds the two
-- equal. Doubles are the same IEEE 754 ones, and are kept as "%.17g", which loses nothing. Logarithms come as arguments.
--
-- KEYS  1 storms (hash: watch -> state)  2 errors (hash: rung -> state)  3 the errors' recent requests (list)
--       4 the storm watch's recent requests (list)  5 the same of the watch that is shared past the most  6 extra (list)
-- ARGV  1 now, Unix seconds, or '' (the server's clock)  2 natural: '1', '0' or ''  3 failed  4 storm_cost  5 watch
--       6 its name where it is shared  7 rung  8 seconds to keep all this  9 most watches  10 z  11 CUSUM's threshold
--       12 release margin  13..19 the errors' guard: limit, up, down, window, min_samples, dwell_s, max_trip_s
--       20 is there a storm guard  21..24 its window, min_samples, dwell_s, max_trip_s  25 on_trip
--       26 max extra in nano-USD, or ''  27..29 limit, up, down of the watch  30..32 of the shared one  33 an hour
-- Returns {action or '', change of the errors or {}, change of the storm or {}}; a change: {kind, rate, limit, samples,
-- tripped_s}, its doubles as texts.

local function text(number) return string.format('%.17g', number) end

local now = tonumber(ARGV[1])
if not now then
  local clock = redis.call('TIME')
  now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end
local keep = ARGV[8]
local z = tonumber(ARGV[10])

local function wilson(hits, n)
  if n == 0 then return 0 end
  local rate, z2 = hits / n, z * z
  local middle = rate + z2 / (2 * n)
  local spread = z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
  return (middle - spread) / (1 + z2 / n)
end

-- A watch: tripped_at or '-', limit_wrong, cusum, run, run_hits, n, hits.
local function load_watch(hash, name, recent)
  local state = redis.call('HGET', hash, name)
  if not state then return nil end
  local at, wrong, cusum, run, run_hits, n, hits = string.match(state, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  local watch = {
    at = tonumber(at), wrong = wrong == '1', cusum = tonumber(cusum), run = tonumber(run),
    run_hits = tonumber(run_hits), n = tonumber(n), hits = tonumber(hits),
  }
  if redis.call('LLEN', recent) ~= watch.n then -- the list was evicted or has expired: the window starts again
    redis.call('DEL', recent)
    watch.n, watch.hits = 0, 0
  end
  return watch
end

local function new_watch()
  return { at = nil, wrong = false, cusum = 0, run = 0, run_hits = 0, n = 0, hits = 0 }
end

local function save_watch(hash, name, recent, w)
  local at = w.at and text(w.at) or '-'
  local state = table.concat({ at, w.wrong and '1' or '0', text(w.cusum), w.run, w.run_hits, w.n, w.hits }, ' ')
  redis.call('HSET', hash, name, state)
  redis.call('EXPIRE', hash, keep)
  redis.call('EXPIRE', recent, keep)
end

local function push(w, recent, hit, most)
  redis.call('RPUSH', recent, hit)
  w.n, w.hits = w.n + 1, w.hits + hit
  while w.n > most do
    w.hits = w.hits - tonumber(redis.call('LPOP', recent))
    w.n = w.n - 1
  end
end

local function restart(w, recent)
  w.cusum, w.run, w.run_hits, w.n, w.hits = 0, 0, 0, 0, 0
  redis.call('DEL', recent)
end

local function observe(w, recent, hit, rule)
  if not w.at then
    push(w, recent, hit, rule.window)
    w.cusum = math.max(0, w.cusum + (hit == 1 and rule.up or rule.down))
    if w.cusum > 0 then w.run, w.run_hits = w.run + 1, w.run_hits + hit else w.run, w.run_hits = 0, 0 end
    local sudden = w.cusum >= tonumber(ARGV[11])
    local slow = w.n >= rule.samples and wilson(w.hits, w.n) > rule.limit
    if not sudden and not slow then return nil end
    local seen, hits = w.n, w.hits
    if sudden then seen, hits = w.run, w.run_hits end
    w.at = now
    restart(w, recent)
    return { 'tripped', text(hits / seen), text(rule.limit), seen }
  end
  push(w, recent, hit, rule.samples)
  local n = w.n
  local rate, lasted = w.hits / n, now - w.at
  local enough = n >= rule.samples and lasted >= rule.dwell
  if enough and rate < rule.limit - math.min(tonumber(ARGV[12]), rule.limit / 2) then
    w.at, w.wrong = nil, false
    restart(w, recent)
    return { 'released', text(rate), text(rule.limit), n }
  end
  if lasted > rule.longest and not w.wrong then
    w.wrong = true
    return { 'limit_wrong', text(rate), text(rule.limit), n }
  end
  return nil
end

local function rule_of(limit, window)
  return {
    limit = tonumber(ARGV[limit]), up = tonumber(ARGV[limit + 1]), down = tonumber(ARGV[limit + 2]),
    window = tonumber(ARGV[window]), samples = tonumber(ARGV[window + 1]), dwell = tonumber(ARGV[window + 2]),
    longest = tonumber(ARGV[window + 3]),
  }
end

local function spent_up()
  local cap = tonumber(ARGV[26])
  if not cap then return false end
  local sum = tonumber(redis.call('HGET', KEYS[2], 'extra:sum') or '0')
  while true do
    local first = redis.call('LINDEX', KEYS[6], 0)
    if not first then
      sum = 0
      break
    end
    local at, cost = string.match(first, '^(%S+) (%S+)$')
    if tonumber(at) > now - tonumber(ARGV[33]) then break end
    redis.call('LPOP', KEYS[6])
    sum = sum - tonumber(cost)
  end
  redis.call('HSET', KEYS[2], 'extra:sum', text(sum))
  return sum >= cap
end

local rung = 'rung:' .. ARGV[7]
local failures = load_watch(KEYS[2], rung, KEYS[3]) or new_watch()
local errors = observe(failures, KEYS[3], tonumber(ARGV[3]), rule_of(13, 16))
save_watch(KEYS[2], rung, KEYS[3], failures)
if errors then errors[5] = '0' end
if ARGV[20] ~= '1' then return { '', errors or {}, {} } end

if ARGV[4] ~= '0' and ARGV[26] ~= '' then
  redis.call('RPUSH', KEYS[6], text(now) .. ' ' .. ARGV[4])
  redis.call('EXPIRE', KEYS[6], keep)
  local sum = tonumber(redis.call('HGET', KEYS[2], 'extra:sum') or '0')
  redis.call('HSET', KEYS[2], 'extra:sum', text(sum + tonumber(ARGV[4])))
end

local natural = tonumber(ARGV[2])
local name, recent, limit = ARGV[5], KEYS[4], 27
local watch = load_watch(KEYS[1], name, recent)
if not watch and natural then
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[9]) then
    name, recent, limit = ARGV[6], KEYS[5], 30
    watch = load_watch(KEYS[1], name, recent)
  end
  watch = watch or new_watch()
end
if not watch then return { '', errors or {}, {} } end

local rule = rule_of(limit, 21)
local action, since = '', watch.at
if since then action = watch.wrong and 'alert' or ARGV[25] end
local overdue = since and now - since > rule.longest
if action ~= '' and (overdue or (action == 'escalate' and spent_up())) then action = 'alert' end
local storm
if natural then
  storm = observe(watch, recent, natural, rule)
  save_watch(KEYS[1], name, recent, watch)
  if storm then storm[5] = text(since and now - since or 0) end
end
return { action, errors or {}, storm or {} }
