-- What a follower has not seen. Read-only.  ARGV  5 its epoch  6 events it has  7 most entries
-- Gives {} | e o st n z ph left entries body fresh
local m = redis.call('HMGET', M, 'e', 'o', 'st', 'n', 'z', 'ph', 'l', 'b', 'x')
if not m[1] then return {} end
local from = m[1] == ARGV[5] and '(' .. m[1] .. '-' .. ARGV[6] or m[1] .. '-0'
return {m[1], m[2], m[3], m[4], m[5], m[6], tonumber(m[7]) - now,
  redis.call('XRANGE', S, from, '+', 'COUNT', ARGV[7]), m[8] or '', fresh(m[9])}
