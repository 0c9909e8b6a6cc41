-- What is known of a request.  KEYS 1 q  ARGV 1 this process 2 '1' it reads it, and must hear of its end
-- Gives {} | a r e o x
local v = redis.call('HMGET', KEYS[1], 'a', 'r', 'e', 'o', 'x', 'y', 'k', 'f')
if not v[1] then return {} end
local mine = v[4] == ARGV[1]
if v[6] and not v[7] and not v[8] and not mine then v[5] = false end -- a wish, of which its owner may know better
if ARGV[2] == '1' and not v[5] and not mine then redis.call('HSET', KEYS[1], '@' .. ARGV[1], 1) end
return {v[1], v[2], v[3], v[4], v[5] or ''}
