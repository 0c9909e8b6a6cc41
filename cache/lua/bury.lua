-- A process has died, and its supervisor knows.  KEYS 1 p 2 d  ARGV 1 that process 2 ms for which it is remembered
local T = redis.call('TIME')
local now = T[1] * 1000 + math.floor(T[2] / 1000)
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
for _, proc in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  redis.call('PUBLISH', 'g:i:' .. proc, 'K|' .. ARGV[1])
end
return 1
