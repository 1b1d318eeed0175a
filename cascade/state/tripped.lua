-- The watches that guard.lua keeps, as they are. KEYS  1 storms (hash: watch -> state)  2 errors (hash: 'rung:' .. rung -> state)
return { redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
