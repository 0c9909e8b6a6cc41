-- The leader of a running answer is not, or not rightly, known here: Redis lost it, or was away when it began.
-- Never shrinks a log, never reopens one, never overrules another who lives.
-- ARGV  5 e  6 guard ms  7 phase  8 z  9 durable body  10 ms for which others may begin to follow
--       11.. all chunks, if they are to be published
-- Gives OK n | FENCED e | ENDED st
local e, z, count, x = ARGV[5], ARGV[8], #ARGV - 10, now + tonumber(ARGV[10])
local m = redis.call('HMGET', M, 'e', 'o', 'st', 'n', 'l')
if m[1] and m[1] ~= e then
  -- What we were given while text came, and never used: our own epoch is as good.
  local unused = m[2] == me and m[3] == 'live' and m[4] == '0'
  local lives = m[3] == 'live' and tonumber(m[5]) >= now and m[2] ~= me
  if lives or (not unused and tonumber(e) <= tonumber(m[1])) then return {'FENCED', m[1]} end
end
if m[1] == e then
  if m[2] ~= me then return {'FENCED', m[1]} end
  if m[3] ~= 'live' then return {'ENDED', m[3]} end
  if events(m[4]) >= count then
    redis.call('HSET', M, 'l', now + lease, 'x', x)
    return {'OK', m[4]}
  end
end
local f = redis.call('GET', F)
local last, wait = '0', now + tonumber(ARGV[6])
if f then last, wait = string.match(f, '(%d+)|(%d+)') end
if tonumber(e) > tonumber(last) then last = e end
redis.call('SET', F, string.format('%s|%.0f', last, wait))
redis.call('DEL', S)
append(e, 0, 1, 11)
redis.call('HSET', M, 'e', e, 'o', me, 'st', 'live', 'l', now + lease, 'n', count, 'z', z, 'ph', ARGV[7], 'q', '', 'x', x)
if ARGV[9] ~= '' then redis.call('HSET', M, 'b', ARGV[9]) end
touch()
note(me, 'D|' .. k .. '|' .. e .. '|' .. count)
return {'OK', count}
