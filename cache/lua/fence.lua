-- A partition's fence exists. KEYS 1 f  ARGV 1 guard ms. Gives the ms until somebody may lead there.
local T = redis.call('TIME')
local now = T[1] * 1000 + math.floor(T[2] / 1000)
local f = redis.call('GET', KEYS[1])
if not f then
  f = string.format('0|%.0f', now + tonumber(ARGV[1]))
  redis.call('SET', KEYS[1], f)
end
return math.max(0, tonumber(string.match(f, '|(%d+)')) - now)
