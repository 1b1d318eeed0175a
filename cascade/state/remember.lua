-- Keep a value under each of the keys.
--
-- KEYS  the keys
-- ARGV  1 the value  2 milliseconds until it expires
for _, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
end
return 1
