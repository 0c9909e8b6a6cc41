-- The leader cannot go on: whoever follows may take over at once; with nobody there, it was never here.  ARGV  5 e
local m = redis.call('HMGET', M, 'e', 'o', 'st')
if m[1] ~= ARGV[5] or m[2] ~= me or m[3] ~= 'live' then return 0 end
local _, interested = others()
if interested == 0 then
  redis.call('DEL', M, S, U)
  return 0
end
redis.call('HSET', M, 'l', 0)
note(me, 'R|' .. k .. '|' .. m[1])
return interested
