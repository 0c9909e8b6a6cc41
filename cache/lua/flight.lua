-- What the scripts of a flight share.
-- KEYS  1 m (state)  2 s (log)  3 u (who follows)  4 f (fence)  5 c (cached answer)  [6 q (request)]
-- ARGV  1 this process  2 the sharing key  3 lease in ms  4 ttl of m, s and u in ms
local T = redis.call('TIME')
local now = T[1] * 1000 + math.floor(T[2] / 1000)
local M, S, U, F, C = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local me, k, lease, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

-- An ended flight has `l` too: until then those who follow may read how it ended, before another takes its place.
local READ = 200

local function tell(proc, message)
  redis.call('PUBLISH', 'g:i:' .. proc, message)
end

-- A hint to every process that follows, but for `skip`.
local function note(skip, message)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', U, now, '+inf')) do
    if #name == 16 and name ~= skip then tell(name, message) end
  end
end

-- How many other processes follow, have somebody interested, have somebody connected.
local function others()
  local follow, interested, connected = 0, 0, 0
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', U, now, '+inf')) do
    if string.sub(name, 1, 16) ~= me then
      local kind = string.sub(name, 17)
      if kind == '' then follow = follow + 1
      elseif kind == 'i' then interested = interested + 1
      else connected = connected + 1 end
    end
  end
  return follow, interested, connected
end

-- Nobody follows, so its maker writes nothing: what it said last of the phase may be old. It says it anew when asked.
local function unheard()
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', U, now, '+inf')) do
    if #name == 16 then return false end
  end
  redis.call('HSET', M, 'ph', '')
  return true
end

-- This process's stake: 'f' follows, 'i' interested, '+' connected; '' none. `more`: beside what it has.
local function stake(flags, more)
  for _, kind in ipairs({'f', 'i', '+'}) do
    local name = kind == 'f' and me or me .. kind
    if string.find(flags, kind, 1, true) then redis.call('ZADD', U, now + lease, name)
    elseif not more then redis.call('ZREM', U, name) end
  end
  if flags ~= '' then redis.call('PEXPIRE', U, ttl) end
end

local function touch()
  redis.call('PEXPIRE', M, ttl)
  redis.call('PEXPIRE', S, ttl)
  redis.call('PEXPIRE', U, ttl)
end

-- Lead under a new epoch, above all before and above `floor`. The epoch, or nil and the ms to wait: Redis
-- has lost its memory, and whoever leads must have time to say so.
local function lead(guard, floor, body)
  local f = redis.call('GET', F)
  local last, wait = 0, now + guard
  if f then
    last, wait = string.match(f, '(%d+)|(%d+)')
    last, wait = tonumber(last), tonumber(wait)
  end
  if wait > now then
    redis.call('SET', F, string.format('%.0f|%.0f', last, wait))
    return nil, wait - now
  end
  local e = math.max(last + 1, now, floor + 1)
  redis.call('SET', F, string.format('%.0f|0', e))
  redis.call('DEL', S, M)
  e = string.format('%.0f', e)
  redis.call('HSET', M, 'e', e, 'o', me, 'st', 'live', 'l', now + lease, 'n', 0, 'z', 0, 'ph', '', 'q', '')
  if body ~= '' then redis.call('HSET', M, 'b', body) end
  redis.call('PEXPIRE', M, ttl)
  stake('')
  note(me, 'R|' .. k .. '|' .. e)
  return e
end

-- How many more ms others may begin to follow it, from what its maker has said of that.
local function fresh(x)
  return x and math.max(0, tonumber(x) - now) or 1e12
end

-- How many events there are: none if the log itself has been evicted, whatever `n` says.
local function events(n)
  n = tonumber(n)
  if n > 0 and redis.call('EXISTS', S) == 0 then return 0 end
  return n
end

-- Chunks ARGV[at..] are events first, first + 1, …; those that are new become one entry. The new n.
local function append(e, n, first, at)
  local fresh = {}
  for i = at, #ARGV do
    if first + i - at > n then fresh[#fresh + 1] = ARGV[i] end
  end
  if #fresh > 0 then
    n = n + #fresh
    redis.call('XADD', S, e .. '-' .. n, 'd', table.concat(fresh, '\n'))
  end
  return n
end
