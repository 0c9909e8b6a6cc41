-- What is known of a request.  KEYS 1 q  ARGV 1 '' or the process that reads it and must hear of its end
-- Gives {} | a r e o x
local v = redis.call('HMGET', KEYS[1], 'a', 'r', 'e', 'o', 'x')
if not v[1] then return {} end
if ARGV[1] ~= '' and not v[5] and v[4] ~= ARGV[1] then redis.call('HSET', KEYS[1], '@' .. ARGV[1], 1) end
return {v[1], v[2], v[3], v[4], v[5] or ''}
