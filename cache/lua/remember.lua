-- A request is known everywhere.  KEYS 1 q  ARGV 1 owner 2 what is known 3 role 4 epoch 5 ttl ms
-- Its process gave up waiting for a look-up that has noted a hit all the same: that is not how it has ended. And one
-- that is still to come (it was sent on a connection that broke) finds `w`, and notes nothing.
if ARGV[3] ~= 'cached' and redis.call('HGET', KEYS[1], 'r') == 'cached' then redis.call('HDEL', KEYS[1], 'x', 'k', 'y') end
redis.call('HSET', KEYS[1], 'a', ARGV[2], 'r', ARGV[3], 'e', ARGV[4], 'o', ARGV[1], 'w', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
