-- A request_id belongs to the first who uses it.  KEYS 1 i  ARGV 1 value 2 ttl ms 3 a value that is stale ('' none)
-- Gives OK | KNOWN value
local v = redis.call('GET', KEYS[1])
if v and v ~= ARGV[1] and v ~= ARGV[3] then return {'KNOWN', v} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'OK'}
