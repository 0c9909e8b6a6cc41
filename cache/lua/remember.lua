-- A request is known everywhere.  KEYS 1 q  ARGV 1 owner 2 what is known 3 role 4 epoch 5 ttl ms
redis.call('HSET', KEYS[1], 'a', ARGV[2], 'r', ARGV[3], 'e', ARGV[4], 'o', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
