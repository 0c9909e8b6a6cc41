-- A turn is still there. One that was let go while its process could not say so gets its old place back.
-- ARGV  5 its id  6 its number  7 '1' it runs: it has had the turns
-- Gives AT place number times-forgotten [turns] | GONE
local id = ARGV[5]
if redis.call('HGET', Y, 'x:' .. id) then return {'GONE'} end
local number = tonumber(ARGV[6])
if number > tonumber(redis.call('HGET', Y, 'n') or 0) then redis.call('HSET', Y, 'n', number) end -- the line was lost
stand(id, number)
line(true)
return place(id, ARGV[7] == '1')
