-- A request has ended. Of several who say so the first is believed, but the process that has it has the last word:
-- it ended there before it heard of the other end, unless somebody has been promised that one (`f`).
-- `y`: a wish, which is no end for anybody but that process until `f` or its last word.  KEYS 1 q
-- `f`: '1' a cancel, 's' how its flight has ended: that one its process may still say in its own words.
-- ARGV 1 this process 2 id 3 the end as JSON 4 ttl ms 5 epoch ('' as it was) 6 'w' a wish, 's' an end that all share,
-- 'p' such an end that a reader elsewhere is about to be told
-- Gives NONE | OK | ALREADY end
local v = redis.call('HMGET', KEYS[1], 'a', 'x', 'o', 'f', 'k')
if not v[1] then return {'NONE'} end
local mine = v[3] == ARGV[1]
if mine then redis.call('HSET', KEYS[1], 'k', 1) end
local wish = ARGV[6] == 'w' and not mine
if ARGV[6] == 'p' and not mine and not v[4] and not v[5] then
  redis.call('HSET', KEYS[1], 'f', v[2] and '1' or 's') -- what was wished before is kept, and told
end
local same = v[4] == 's' and ARGV[6] == 's'
if v[2] and (not mine or (v[4] and not same)) then
  if not wish then redis.call('HDEL', KEYS[1], 'y') end -- whoever wished it may be gone
  return {'ALREADY', v[2]}
end
redis.call('HSET', KEYS[1], 'x', ARGV[3])
if wish then redis.call('HSET', KEYS[1], 'y', 1) else redis.call('HDEL', KEYS[1], 'y') end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'e', ARGV[5]) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local message = 'X|' .. ARGV[2]
if v[3] ~= ARGV[1] then redis.call('PUBLISH', 'g:i:' .. v[3], message) end
if wish then return {'OK'} end
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local proc = string.match(name, '^@(.+)$')
  if proc and proc ~= ARGV[1] then redis.call('PUBLISH', 'g:i:' .. proc, message) end
end
return {'OK'}
