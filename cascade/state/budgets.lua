-- A process sends what it has spent and holds of some counters, as totals; the reply is what it may hold from now on.
--
-- A counter is a hash. A process may spend and reserve up to what it is entitled to, so while the sum of all
-- entitlements stays below a hard limit, no failure can exceed it. Fields, all in nano-USD and below 2^53:
--   E, U, S   the sums of all processes' entitled, used (settled + reserved) and settled
--   p:WHO     one process: "entitled used settled call"; a call older than the last known one is ignored
--   N         processes that have not closed; q: calls so far
--   seed      what the ledger knew before the first process
--   rq, rt, ra  after an empty restart: the latest q that a survivor knows, the total then, and what of that total has
--             registered again; the rest, rt - ra, is held by processes that are gone or late, and stays counted
--   t1, t2    which process has sent the alerts
--
-- KEYS  1 epoch (hash: id, until)  2.. counters
-- ARGV  1 now or ''  2 call  3 a new epoch's id, if there is none  4 seconds of recovery  5 kind: reserve, settle,
--       assert, close  6 bound; then for each counter 14: who, limit, hard, seed, used, settled, held, entitled
--       when last acknowledged, q and total then, seconds to keep, least spend of each of two alerts, alerts known
--       (seed: what the ledger knows, '' if it was not read, '-' if it could not be read)
-- Returns {status, index, epoch, ms of recovery left, {entitled, slice, q, total, alerts known, alerts to tell, spent}...}
-- status: ok; refused (that counter has no room, nothing was reserved); seed (that counter is new: send what the ledger
-- knows); stale (a later call has already arrived).

local PER, FIRST = 14, 7
local now = tonumber(ARGV[1])
if not now then
  local clock = redis.call('TIME')
  now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end
local call, kind, bound = tonumber(ARGV[2]), ARGV[5], tonumber(ARGV[6])

local function whole(number) return string.format('%.0f', number) end

local epoch, till = unpack(redis.call('HMGET', KEYS[1], 'id', 'until'))
if not epoch then
  epoch, till = ARGV[3], now + tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'id', epoch, 'until', string.format('%.17g', till))
end
local left = math.max(0, tonumber(till) - now)
local recovering = left > 0

local function load_counter(i)
  local at = FIRST + (i - 1) * PER
  local function arg(n) return ARGV[at + n] end
  local c = {
    key = KEYS[i + 1], who = 'p:' .. arg(0), limit = tonumber(arg(1)), hard = arg(2) == '1', given = tonumber(arg(3)),
    asked = arg(3) ~= '', used = tonumber(arg(4)), settled = tonumber(arg(5)), held = tonumber(arg(6)), acked = tonumber(arg(7)),
    known_q = tonumber(arg(8)), known_total = tonumber(arg(9)), keep = arg(10),
    least = { tonumber(arg(11)), tonumber(arg(12)) }, known = tonumber(arg(13)), fresh = {},
  }
  local f = redis.call('HMGET', c.key, 'E', 'U', 'S', 'N', 'q', 'seed', 'rq', 'rt', 'ra', 't1', 't2', c.who)
  local function num(n) return tonumber(f[n] or '0') end
  c.E, c.U, c.S, c.N, c.q = num(1), num(2), num(3), num(4), num(5)
  c.seed, c.rq, c.rt, c.ra = tonumber(f[6] or ''), tonumber(f[7] or ''), num(8), num(9)
  c.told = { f[10], f[11] }
  c.e, c.u, c.s, c.n = 0, 0, 0, -1
  if f[12] then
    local e, u, s, n = string.match(f[12], '^(%d+) (%d+) (%d+) (%d+)$')
    c.e, c.u, c.s, c.n = tonumber(e), tonumber(u), tonumber(s), tonumber(n)
  else
    c.N = c.N + 1
    if c.known_q > 0 then -- it was known here before the server restarted empty
      if c.known_q > (c.rq or 0) then c.rq, c.rt = c.known_q, c.known_total end
      c.ra = c.ra + c.acked
      c.fresh = { 'rq', whole(c.rq), 'rt', whole(c.rt), 'ra', whole(c.ra) }
      c.q = math.max(c.q, c.rq)
    end
  end
  if not c.seed and c.given then
    c.seed = c.given
    c.fresh[#c.fresh + 1] = 'seed'
    c.fresh[#c.fresh + 1] = whole(c.given)
  end
  c.base = math.max(0, math.max(c.seed or 0, c.rt) - c.ra)
  local room = c.limit - (c.E - c.e) - c.base
  c.floor = c.held
  if not recovering and c.e < c.held then c.floor = math.min(c.held, room) end -- it comes late: what it held may have been granted to others
  c.floor = math.max(c.used, c.floor)
  c.top = recovering and c.floor or math.max(c.floor, room)
  return c
end

local counters, status, index = {}, 'ok', 0
for i = 1, #KEYS - 1 do
  local c = load_counter(i)
  counters[i] = c
  if c.n >= call then return { 'stale', i, epoch, math.ceil(left * 1000) } end
  if kind == 'reserve' and not c.seed and not c.rq and not c.asked then return { 'seed', i, epoch, math.ceil(left * 1000) } end
end
if kind == 'reserve' then
  for i, c in ipairs(counters) do
    if c.hard and c.used + bound > c.top then
      status, index = 'refused', i
      break
    end
  end
end

local replies = { status, index, epoch, math.ceil(left * 1000) }
for i, c in ipairs(counters) do
  local used, entitled = c.used, c.floor
  local free = math.max(0, c.limit - c.base - c.U)
  local slice = math.floor(math.min(c.limit / 100, free / (4 * math.max(1, c.N))))
  if kind == 'reserve' and status == 'ok' then
    used = c.used + bound
    entitled = math.max(c.floor, used)
    if c.hard then entitled = math.max(c.floor, math.min(c.top, used + slice)) end
  end
  if kind == 'close' then c.N = c.N - 1 end
  c.E, c.U, c.S, c.q = c.E + entitled - c.e, c.U + used - c.u, c.S + c.settled - c.s, c.q + 1
  local write = c.fresh
  local function put(name, value)
    write[#write + 1] = name
    write[#write + 1] = value
  end
  put('E', whole(c.E))
  put('U', whole(c.U))
  put('S', whole(c.S))
  put('N', whole(c.N))
  put('q', whole(c.q))
  put(c.who, table.concat({ whole(entitled), whole(used), whole(c.settled), whole(call) }, ' '))
  local spent, known, tell = c.base + c.S, 0, 0
  for k, least in ipairs(c.least) do
    local bit, knows = k, math.floor(c.known / k) % 2 == 1
    if not c.told[k] and knows then -- it was sent before the server restarted empty
      c.told[k] = 'before'
      put('t' .. k, 'before')
    end
    if kind == 'settle' and not knows and spent >= least and (not c.told[k] or c.told[k] == c.who) then
      c.told[k] = c.who -- again, if the reply to the same process was lost
      put('t' .. k, c.who)
      known, tell = known + bit, tell + bit
    elseif knows or (c.told[k] and c.told[k] ~= c.who) then
      known = known + bit
    end
  end
  redis.call('HSET', c.key, unpack(write))
  redis.call('EXPIRE', c.key, c.keep)
  replies[#replies + 1] = {
    entitled, slice, c.q, whole(c.E + c.base), known, tell, whole(spent),
  }
end
return replies
