-- The leader ends its flight; promotion to the cache is atomic with it: a newcomer joins or hits.
-- ARGV  5 e  6 how  7 payload  8 events in all  9 cache value ('' none)  10 cache ttl ms
--       11 '1': the log must be here  12 number of the first event  13.. chunks
-- Gives OK | GONE | FENCED e | ENDED st | GAP n
local e, how, total, first = ARGV[5], ARGV[6], tonumber(ARGV[8]), tonumber(ARGV[12])
local m = redis.call('HMGET', M, 'e', 'o', 'st', 'n', 'z')
if not m[1] then return {'GONE'} end
if m[1] ~= e or m[2] ~= me then return {'FENCED', m[1]} end
if m[3] == how then return {'OK'} end
if m[3] ~= 'live' then return {'ENDED', m[3]} end
local n = events(m[4])
-- Lazy: nobody else follows and nothing was published, so the log stays where it is.
if others() > 0 or m[5] == '1' or ARGV[11] == '1' then
  if first > n + 1 then return {'GAP', n} end
  n = append(e, n, first, 13)
  if n < total then return {'GAP', n} end
  redis.call('XADD', S, e .. '-' .. (n + 1), 't', how, 'd', ARGV[7])
end
if ARGV[9] ~= '' then redis.call('SET', C, ARGV[9], 'PX', ARGV[10]) end
redis.call('HSET', M, 'st', how, 'n', n, 'l', now + READ)
touch()
note(me, 'D|' .. k .. '|' .. e .. '|' .. (n + 1))
return {'OK'}
