-- A follower leads a flight whose leader is gone.
-- ARGV  5 its epoch  6 nonce  7 guard ms  8 a process known to be dead ('' none)  9 durable body
-- Gives LEAD e | LATE e | ENDED st | ALIVE ms | WAIT ms | GONE
local m = redis.call('HMGET', M, 'e', 'o', 'st', 'l', 'q')
if not m[1] then return {'GONE'} end
if m[5] == ARGV[6] then return {'LEAD', m[1]} end
if m[1] ~= ARGV[5] then return {'LATE', m[1]} end
if m[3] ~= 'live' then return {'ENDED', m[3]} end
local left = tonumber(m[4]) - now
if left >= 0 and m[2] ~= ARGV[8] then return {'ALIVE', left} end
local e, wait = lead(tonumber(ARGV[7]), 0, ARGV[9])
if not e then return {'WAIT', wait} end
redis.call('HSET', M, 'q', ARGV[6])
return {'LEAD', e}
