-- Cache look-up, join or lead, registration and replay in one round trip.
-- ARGV  5 guard ms  6 mode: c read the cache, j may join, l may lead, x what I led before is void
--       7 stake if it joins  8 most entries to replay  9 floor of a new epoch  10 durable body
--       11 ttl of the request's record in ms ('' no record)  12 what is known of the request
--       13 how it ends if it is a hit ('' no record of one)  14 ttl of that record in ms
-- Gives HIT value | JOIN e o n z ph left entries fresh | PAST e | LEAD e |
--       WAIT ms | BUSY | MISS
local mode = ARGV[6]
local function may(what) return string.find(mode, what, 1, true) end
-- Its process has gone on without this answer, and said what became of the request.
local said = ARGV[11] ~= '' and redis.call('HGET', KEYS[6], 'w') == '1'
local function remember(role, e)
  if ARGV[11] ~= '' and not said then
    redis.call('HDEL', KEYS[6], 'x', 'k', 'y') -- of a hit that was of no use
    redis.call('HSET', KEYS[6], 'a', ARGV[12], 'r', role, 'e', e, 'o', me)
    redis.call('PEXPIRE', KEYS[6], ARGV[11])
  end
end
-- The epoch in an answer's header (cache/codec.py): its record must name that answer, not what replaces it. Or ''.
local function epoch_of(value)
  local ok, header = pcall(function()
    return cmsgpack.unpack(string.sub(value, 25, 24 + struct.unpack('>I4', value, 21)))
  end)
  local e = ok and type(header) == 'table' and header[2]
  return type(e) == 'number' and string.format('%.0f', e) or ''
end

if may('c') then
  local value = redis.pcall('GET', C) -- an error, a table, where something else than an answer lies
  if type(value) == 'string' then
    if ARGV[13] ~= '' and not said then
      redis.call('HSET', KEYS[6], 'a', ARGV[12], 'r', 'cached', 'e', epoch_of(value), 'o', me, 'x', ARGV[13], 'k', 1)
      redis.call('PEXPIRE', KEYS[6], ARGV[14])
    end
    return {'HIT', value}
  end
end
local m = redis.call('HMGET', M, 'e', 'o', 'st', 'l', 'n', 'z', 'ph', 'x')
local e, o, left, n = m[1], m[2], tonumber(m[4] or 0) - now, tonumber(m[5] or 0)
if e and m[3] == 'live' then
  if o == me and n == 0 and not may('x') then
    -- A claim whose reply was lost, or whose caller has left.
    redis.call('HSET', M, 'l', now + lease)
    remember('leader', e)
    return {'LEAD', e}
  end
  if o ~= me and left >= 0 then
    if not may('j') then return {'BUSY'} end
    if fresh(m[8]) == 0 then return {'PAST', e} end
    if unheard() then m[7] = '' end
    stake(ARGV[7], true)
    tell(o, 'W|' .. k .. '|' .. e)
    remember('follower', e)
    return {'JOIN', e, o, n, m[6], m[7], left, redis.call('XRANGE', S, e .. '-0', '+', 'COUNT', ARGV[8]),
      fresh(m[8])}
  end
end
if not may('l') then return {'MISS'} end
-- Whoever still follows what has just ended would take this one for it; but it may be one of those who adopts it.
if e and m[3] ~= 'live' and left > 0 and ARGV[9] ~= e and others() > 0 then return {'WAIT', math.min(left, 10)} end
local new, wait = lead(tonumber(ARGV[5]), tonumber(ARGV[9]), ARGV[10])
if not new then return {'WAIT', wait} end
remember('leader', new)
return {'LEAD', new}
