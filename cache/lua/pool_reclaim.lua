-- Take back all that a dead process held or waited for.  ARGV 4 that process. Gives how many slots.
local prefix, taken = ARGV[4] .. '/', 0
for _, key in ipairs({H, Q, W}) do
  for _, ticket in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if string.sub(ticket, 1, #prefix) == prefix then
      redis.call('ZREM', key, ticket)
      if key == H then taken = taken + 1 end
    end
  end
end
reap()
promote()
touch()
return taken
