-- A turn leaves for good. What it has to say is kept once, and only if nothing later has begun without it and the
-- conversation was not forgotten meanwhile.
-- ARGV  5 its id  6 its number  7 times forgotten when it began  8 the turn ('' nothing)  9 most turns  10 most bytes
-- Gives kept (1 or 0), and the id that is next or ''
local id, number, turn = ARGV[5], tonumber(ARGV[6]), ARGV[8]
local function has(field) return tonumber(redis.call('HGET', Y, field) or 0) end
local function drop() redis.call('HINCRBY', Y, 'b', -#redis.call('LPOP', Z)) end
local kept = 0
if turn ~= '' and redis.call('HGET', Y, 'x:' .. id) then kept = has('d') == number and 1 or 0
elseif turn ~= '' and #turn <= tonumber(ARGV[10]) and ARGV[7] == (redis.call('HGET', Y, 'g') or '0') and number >= has('h') and number > has('d') then
  if redis.call('EXISTS', Z) == 0 then redis.call('HSET', Y, 'b', 0) end
  redis.call('RPUSH', Z, turn)
  redis.call('HSET', Y, 'd', number)
  redis.call('HINCRBY', Y, 'b', #turn)
  while redis.call('LLEN', Z) > tonumber(ARGV[9]) do drop() end
  while redis.call('LLEN', Z) > 0 and has('b') > tonumber(ARGV[10]) do drop() end
  kept = 1
end
redis.call('HDEL', Y, 'm:' .. id)
redis.call('HSET', Y, 'x:' .. id, string.format('%.0f', now + lease))
redis.call('DEL', KEYS[3])
touch()
local first = line(true)[1]
if not first then return {kept, ''} end
redis.call('PUBLISH', 'g:i:' .. first[3], 'V|' .. first[1])
return {kept, first[1]}
