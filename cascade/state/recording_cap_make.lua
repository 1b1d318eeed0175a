-- Begin the counter of a recording's cap (recording_cap.lua), or delete it. ARGV: the cap (-1: delete), what is spent, how long it is kept.
redis.call('DEL', KEYS[1])
if tonumber(ARGV[1]) >= 0 then
  redis.call('HSET', KEYS[1], 'cap', ARGV[1], 'spent', ARGV[2], 'held', '0', 'largest', '0')
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 'ok'
