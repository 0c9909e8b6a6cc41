-- Nobody is let in for ARGV 4 ms; a pause under way is never shortened.
local till = now + tonumber(ARGV[4])
if till > tonumber(redis.call('HGET', X, 'cool') or 0) then redis.call('HSET', X, 'cool', till, 'given', 0) end
redis.call('PEXPIRE', X, math.max(tonumber(ARGV[4]) + 10000, 60000))
return 1
