-- Follow a flight that is running somewhere, or learn that none is. Never leads.
-- ARGV  5 stake  6 most entries
-- Gives {} | e o st n z ph left others-interested entries body fresh
local m = redis.call('HMGET', M, 'e', 'o', 'st', 'n', 'z', 'ph', 'l', 'b', 'x')
if not m[1] then return {} end
if m[3] == 'live' then
  if unheard() then m[6] = '' end
  stake(ARGV[5], true)
  if m[2] ~= me then tell(m[2], 'W|' .. k .. '|' .. m[1]) end
end
local _, interested = others()
return {m[1], m[2], m[3], m[4], m[5], m[6], tonumber(m[7]) - now, interested,
  redis.call('XRANGE', S, m[1] .. '-0', '+', 'COUNT', ARGV[6]), m[8] or '', fresh(m[9])}
