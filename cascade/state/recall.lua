-- The first of the keys that is known.
--
-- KEYS  the keys
-- Returns {its position from 0, its value}, or {} if none is known.
for position, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if value then
    return { position - 1, value }
  end
end
return {}
