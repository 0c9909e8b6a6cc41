-- A turn is still there. One that was let go while its process could not say so gets its old place back.
-- ARGV  5 its id  6 its number  7 '1' it runs: it has had the turns
-- Gives AT place number times-forgotten [turns] | GONE
local id = ARGV[5]
if redis.call('HGET', Y, 'x:' .. id) then return {'GONE'} end
stand(id, tonumber(ARGV[6]))
line(true)
return place(id, ARGV[7] == '1')
