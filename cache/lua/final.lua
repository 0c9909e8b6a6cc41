-- Whoever ended a request elsewhere is about to be told so: its own process can no longer say otherwise, unless it
-- has spoken.  KEYS 1 q  ARGV 1 id.  Gives {} | the end
local v = redis.call('HMGET', KEYS[1], 'x', 'k')
if not v[1] then return {} end
if not v[2] then
  redis.call('HSET', KEYS[1], 'f', 1)
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    local proc = string.match(name, '^@(.+)$')
    if proc then redis.call('PUBLISH', 'g:i:' .. proc, 'X|' .. ARGV[1]) end
  end
end
return {v[1]}
