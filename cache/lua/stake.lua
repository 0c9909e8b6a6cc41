-- A follower says what it wants of a flight; the leader is told to look.  ARGV  5 stake ('' leaves)
--       6 '|x' if the last who was interested has cancelled
stake(ARGV[5])
local m = redis.call('HMGET', M, 'e', 'o', 'st')
if m[1] and m[3] == 'live' and m[2] ~= me then tell(m[2], 'W|' .. k .. '|' .. m[1] .. ARGV[6]) end
return 1
