-- A request has ended: the first end stays.  KEYS 1 q
-- ARGV 1 this process 2 id 3 the end as JSON 4 ttl ms 5 epoch ('' as it was)
-- Gives NONE | OK | ALREADY end
local v = redis.call('HMGET', KEYS[1], 'a', 'x', 'o')
if not v[1] then return {'NONE'} end
if v[2] then
  -- Its owner has heard: whoever ended it for others may say that it is so.
  if v[3] == ARGV[1] then redis.call('HSET', KEYS[1], 'k', 1) end
  return {'ALREADY', v[2]}
end
redis.call('HSET', KEYS[1], 'x', ARGV[3])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'e', ARGV[5]) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local message = 'X|' .. ARGV[2]
if v[3] ~= ARGV[1] then redis.call('PUBLISH', 'g:i:' .. v[3], message) end
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local proc = string.match(name, '^@(.+)$')
  if proc and proc ~= ARGV[1] then redis.call('PUBLISH', 'g:i:' .. proc, message) end
end
return {'OK'}
