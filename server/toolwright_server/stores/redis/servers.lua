#!lua
-- Who shares this store. KEYS: the set of servers. ARGV: how long a word holds (µs), the server's name, or an empty one
-- that only asks, and 1 when it leaves. Answers how many there are.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local key, lasts, name = KEYS[1], tonumber(ARGV[1]), ARGV[2]
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
if ARGV[3] == '1' then
  redis.call('ZREM', key, name)
elseif name ~= '' then
  redis.call('ZADD', key, now + lasts, name)
  redis.call('PEXPIRE', key, math.floor(lasts / 1000) + 1)
end
return redis.call('ZCARD', key)
