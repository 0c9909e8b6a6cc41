-- A turn takes its place.  ARGV  5 its id  6 how many may wait  7 where it is, for other processes  8 ttl of that in ms
-- Gives AT place number times-forgotten [turns] | BUSY | GONE
local id = ARGV[5]
if redis.call('HGET', Y, 'x:' .. id) then return {'GONE'} end
local found = line(true)
if not redis.call('HGET', Y, 'm:' .. id) then
  if #found > tonumber(ARGV[6]) then return {'BUSY'} end
  stand(id, redis.call('HINCRBY', Y, 'n', 1))
  redis.call('SET', KEYS[3], ARGV[7], 'PX', ARGV[8])
end
return place(id, false)
