-- What the scripts of a conversation share.
-- KEYS  1 y (the line)  2 z (its turns)  [3 w (where a turn is)]
-- ARGV  1 this process  2 lease in ms  3 ttl in ms  4 processes that are known to be dead, in one string
-- y has  n last number given  g times forgotten  h highest number that has been first  d number of the last turn kept
--        b bytes of all turns  m:<id> '<number>|<lease until>|<process>'  x:<id> left for good, known until
local T = redis.call('TIME')
local now = T[1] * 1000 + math.floor(T[2] / 1000)
local Y, Z = KEYS[1], KEYS[2]
local me, lease, ttl, dead = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

-- Who stands in it, in order; `reap`: whoever does not say so any more is let go.
local function line(reap)
  local all, found = redis.call('HGETALL', Y), {}
  for i = 1, #all, 2 do
    local kind, id = string.match(all[i], '^([mx]):(.+)$')
    if kind == 'm' then
      local number, till, proc = string.match(all[i + 1], '^(%d+)|(%d+)|(.*)$')
      if tonumber(till) >= now and not (proc ~= '' and string.find(dead, proc, 1, true)) then
        found[#found + 1] = {id, tonumber(number), proc}
      elseif reap then redis.call('HDEL', Y, all[i]) end
    elseif kind == 'x' and reap and tonumber(all[i + 1]) < now then redis.call('HDEL', Y, all[i]) end
  end
  table.sort(found, function(a, b) return a[2] < b[2] end)
  return found
end

local function stand(id, number)
  redis.call('HSET', Y, 'm:' .. id, string.format('%d|%.0f|%s', number, now + lease, me))
end

local function touch()
  redis.call('PEXPIRE', Y, math.max(ttl, lease))
  redis.call('PEXPIRE', Z, ttl)
end

-- Where it stands; whoever is first gets the turns, unless it has them already.
local function place(id, has)
  local found = line(false)
  for i, one in ipairs(found) do
    if one[1] == id then
      touch()
      if i > 1 or has then return {'AT', i - 1, one[2], redis.call('HGET', Y, 'g') or '0'} end
      if one[2] > tonumber(redis.call('HGET', Y, 'h') or 0) then redis.call('HSET', Y, 'h', one[2]) end
      return {'AT', 0, one[2], redis.call('HGET', Y, 'g') or '0', redis.call('LRANGE', Z, 0, -1)}
    end
  end
  return {'GONE'}
end
