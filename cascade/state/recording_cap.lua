-- One cap for all workers of a recording. KEYS[1]: a hash with `cap`, `spent` and `held` in nano-USD, `largest` (the largest bound of a
-- call), and for each part of the recording what it has spent (s:PART) and holds for calls under way (h:PART).
-- ARGV: what to do, the part, an amount and another, and how long the hash is kept, in seconds.
-- Replies the status and how much is spent.
local key, op, part = KEYS[1], ARGV[1], ARGV[2]
if redis.call('EXISTS', key) == 0 then
  return {'gone', 0}
end
redis.call('EXPIRE', key, ARGV[5])
local function value(name)
  return tonumber(redis.call('HGET', key, name) or '0')
end
local function put(name, amount)
  redis.call('HSET', key, name, string.format('%.0f', amount))
end
local spent, held = value('spent'), value('held')
local of_spent, of_held = 's:' .. part, 'h:' .. part
if op == 'reserve' then
  local cap, bound = value('cap'), tonumber(ARGV[3])
  if spent >= cap then
    return {'reached', spent}
  elseif spent + held >= cap then
    return {'wait', spent}
  end
  put('held', held + bound)
  put(of_held, value(of_held) + bound)
  put('largest', math.max(value('largest'), bound))
elseif op == 'settle' then
  local bound, cost = tonumber(ARGV[3]), tonumber(ARGV[4])
  put('held', held - bound)
  put(of_held, value(of_held) - bound)
  spent = spent + cost
  put('spent', spent)
  put(of_spent, value(of_spent) + cost)
elseif op == 'take' then
  local counted = tonumber(ARGV[3])
  put('held', held - value(of_held))
  put(of_held, 0)
  spent = spent + counted - value(of_spent)
  put('spent', spent)
  put(of_spent, counted)
end
return {'ok', spent}
