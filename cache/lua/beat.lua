-- All that this process leads and follows in one partition: leases renewed, news told.
-- KEYS  m1 s1 u1 m2 s2 u2 …   ARGV  1 this process  2 lease ms  3 ttl ms  4.. per flight: L<e> or F<e>|<stake>
-- Gives per flight: e st n left o z followers interested connected  (e '' if unknown)
local T = redis.call('TIME')
local now = T[1] * 1000 + math.floor(T[2] / 1000)
local me, lease, ttl, out = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), {}
for i = 1, #KEYS / 3 do
  local M, S, U = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local role, e, flags = string.match(ARGV[3 + i], '^(.)(%d+)|?(.*)$')
  local m = redis.call('HMGET', M, 'e', 'st', 'n', 'l', 'o', 'z')
  local left = tonumber(m[4] or 0) - now
  if role == 'L' and m[1] == e and m[5] == me and m[2] == 'live' then
    redis.call('HSET', M, 'l', now + lease)
    redis.call('PEXPIRE', M, ttl)
    redis.call('PEXPIRE', S, ttl)
    redis.call('PEXPIRE', U, ttl)
    left = lease
  end
  if role == 'F' then
    for _, kind in ipairs({'f', 'i', '+'}) do
      if string.find(flags, kind, 1, true) then
        redis.call('ZADD', U, now + lease, kind == 'f' and me or me .. kind)
      end
    end
    redis.call('PEXPIRE', U, ttl)
  end
  local counts = {0, 0, 0}
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', U, now, '+inf')) do
    if string.sub(name, 1, 16) ~= me then
      local at = #name == 16 and 1 or (string.sub(name, 17) == 'i' and 2 or 3)
      counts[at] = counts[at] + 1
    end
  end
  out[i] = {m[1] or '', m[2] or '', tonumber(m[3] or 0), left, m[5] or '', m[6] or '0', counts[1], counts[2], counts[3]}
end
return out
