-- What there is of a conversation. Read-only.  ARGV  5 '1' with its turns
-- Gives {} | ms until it is forgotten, ids in line, turns
local found, ids = line(false), {}
for i, one in ipairs(found) do ids[i] = one[1] end
local left = redis.call('PTTL', Z)
if left < 0 and #ids == 0 then return {} end
if left < 0 then left = redis.call('PTTL', Y) end
return {left, ids, ARGV[5] == '1' and redis.call('LRANGE', Z, 0, -1) or {}}
