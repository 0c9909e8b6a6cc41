-- The leader has nobody left: end, unless somebody elsewhere is interested. One step, so no newcomer is between.
-- ARGV  5 e  6 how  7 payload
-- Gives CANCELLED | BUSY followers interested connected | GONE | FENCED e
local m = redis.call('HMGET', M, 'e', 'o', 'st', 'n', 'z')
if not m[1] then return {'GONE'} end
if m[1] ~= ARGV[5] or m[2] ~= me then return {'FENCED', m[1]} end
if m[3] ~= 'live' then return {'CANCELLED'} end
redis.call('ZREMRANGEBYSCORE', U, '-inf', now - 1)
local follow, interested, connected = others()
if interested > 0 then return {'BUSY', follow, interested, connected} end
if follow > 0 or m[5] == '1' then
  redis.call('XADD', S, m[1] .. '-' .. (tonumber(m[4]) + 1), 't', ARGV[6], 'd', ARGV[7])
end
redis.call('HSET', M, 'st', ARGV[6], 'l', now + READ)
touch()
note(me, 'D|' .. k .. '|' .. m[1] .. '|' .. (tonumber(m[4]) + 1))
return {'CANCELLED'}
