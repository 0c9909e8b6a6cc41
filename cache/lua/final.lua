-- Whoever ended a request elsewhere is about to be told so: its own process can no longer say otherwise, unless it
-- has spoken.  KEYS 1 q.  Gives {} | the end
local v = redis.call('HMGET', KEYS[1], 'x', 'k')
if not v[1] then return {} end
if not v[2] then redis.call('HSET', KEYS[1], 'f', 1) end
return {v[1]}
