-- What the scripts of a pool of LLM slots share.
-- KEYS  1 h (holders)  2 q (queue)  3 w (who waits, and until when)  4 x (cool-down)
-- ARGV  1 capacity  2 lease in ms  3 the pool's name
local T = redis.call('TIME')
local now = T[1] * 1000 + math.floor(T[2] / 1000)
local H, Q, W, X = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local cap, lease, pool = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local function reap()
  redis.call('ZREMRANGEBYSCORE', H, '-inf', now - 1)
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', W, '-inf', now - 1)) do
    redis.call('ZREM', Q, ticket)
    redis.call('ZREM', W, ticket)
  end
end

local function leave(ticket)
  redis.call('ZREM', H, ticket)
  redis.call('ZREM', Q, ticket)
  redis.call('ZREM', W, ticket)
end

-- Let in whom there is room for, the first in the queue first; the ms until more may be let in, if a pause or the
-- gradual restart after it holds somebody back. A grant is pushed to the process that asked.
local function promote()
  local cool = tonumber(redis.call('HGET', X, 'cool') or 0)
  if cool > now then return cool - now end
  local free, budget, wait = cap - redis.call('ZCARD', H), nil, 0
  if cool > 0 and now < cool + 1000 then
    local step = math.floor((now - cool) / 100) + 1
    budget = step * math.max(1, math.floor(cap / 10)) - tonumber(redis.call('HGET', X, 'given') or 0)
    wait = cool + step * 100 - now
  end
  local given = 0
  while free > given and (not budget or budget > given) do
    local first = redis.call('ZPOPMIN', Q)
    if not first[1] then break end
    redis.call('ZREM', W, first[1])
    redis.call('ZADD', H, now + lease, first[1])
    redis.call('PUBLISH', 'g:i:' .. string.match(first[1], '^(.-)/'), 'G|' .. pool .. '|' .. first[1])
    given = given + 1
  end
  if budget then
    if given > 0 then redis.call('HINCRBY', X, 'given', given) end
    if budget <= given and redis.call('ZCARD', Q) > 0 then return wait end
  end
  return 0
end

local function touch()
  for _, key in ipairs({H, Q, W, X}) do redis.call('PEXPIRE', key, math.max(2 * lease, 60000)) end
end
