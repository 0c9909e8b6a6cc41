-- One process's changes, and what is true now. Idempotent: each ticket is stated, not counted.
-- ARGV  4 '1' after a time without Redis: grants restart gradually
--       5 number of tickets let go, then they  · number held, then they
--       · number that wait, then ticket and order (ms from now; 'u' before it: the order has changed)
-- Gives now, ms to wait, waiting in all, held in all, then per waiting ticket -1 granted, else how many are before it
local at = 5
local function list(width)
  local n, first = tonumber(ARGV[at]), at + 1
  at = first + n * width
  return n, first
end

reap()
if ARGV[4] == '1' and tonumber(redis.call('HGET', X, 'cool') or 0) + 1000 < now then
  redis.call('HSET', X, 'cool', now, 'given', 0)
end
local n, first = list(1)
for i = first, first + n - 1 do leave(ARGV[i]) end
n, first = list(1)
-- Even beyond the capacity: who streams uses a slot, whatever we remember. It only holds others back.
for i = first, first + n - 1 do
  redis.call('ZREM', Q, ARGV[i])
  redis.call('ZREM', W, ARGV[i])
  redis.call('ZADD', H, now + lease, ARGV[i])
end
n, first = list(2)
for i = first, first + 2 * n - 1, 2 do
  local ticket, order = ARGV[i], ARGV[i + 1]
  if redis.call('ZSCORE', H, ticket) then redis.call('ZADD', H, now + lease, ticket)
  else
    if string.sub(order, 1, 1) == 'u' then redis.call('ZADD', Q, now + tonumber(string.sub(order, 2)), ticket)
    else redis.call('ZADD', Q, 'NX', now + tonumber(order), ticket) end
    redis.call('ZADD', W, now + lease, ticket)
  end
end
local out = {now, promote(), redis.call('ZCARD', Q), redis.call('ZCARD', H)}
for i = first, first + 2 * n - 1, 2 do
  out[#out + 1] = redis.call('ZSCORE', H, ARGV[i]) and -1 or redis.call('ZRANK', Q, ARGV[i])
end
touch()
return out
