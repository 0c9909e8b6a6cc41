-- The leader publishes. Renews its lease. Idempotent: what is there already is skipped.
-- ARGV  5 e  6 number of the first event  7 phase  8.. chunks
-- Gives OK n followers interested connected | GONE | FENCED e | ENDED st | GAP n
local e, first = ARGV[5], tonumber(ARGV[6])
local m = redis.call('HMGET', M, 'e', 'o', 'st', 'n')
if not m[1] then return {'GONE'} end
if m[1] ~= e or m[2] ~= me then return {'FENCED', m[1]} end
if m[3] ~= 'live' then return {'ENDED', m[3]} end
local n = events(m[4])
if first > n + 1 then return {'GAP', n} end
n = append(e, n, first, 8)
redis.call('HSET', M, 'n', n, 'l', now + lease, 'z', 1, 'ph', ARGV[7])
touch()
note(me, 'D|' .. k .. '|' .. e .. '|' .. n)
return {'OK', n, others()}
