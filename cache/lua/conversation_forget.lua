-- The turns are gone, and what runs now adds none.  Gives 1, or 0 if there was nothing.
local there = redis.call('EXISTS', Z) == 1 or #line(true) > 0
if not there then return 0 end
redis.call('HINCRBY', Y, 'g', 1)
redis.call('HSET', Y, 'b', 0)
redis.call('DEL', Z)
touch()
return 1
