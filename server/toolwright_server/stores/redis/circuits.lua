#!lua
-- One circuit, kept for all servers that share this store, by the clock of this server. It decides as
-- execution/circuits/machine.py does, which says why.
--
-- KEYS: the circuit. ARGV: verb (enter, record, renew), token, lease (µs), window (µs), minimum of calls, ratio of failures,
-- ratio of slow calls (0: they open nothing), open (µs) at first and at most; for record also the generation in which the
-- attempt was let through, and 1 or 0 for: it says something, it failed, it was slow.
--
-- What is kept: a hash of state (absent: closed), generation, openings, until, closed_at, probe and probe_until, and for
-- each slice of the window `s` with its number: calls, failures and slow ones. It expires by itself. Who enters a closed
-- circuit changes nothing.
--
-- The answer: state (0 closed, 1 half-open, 2 open), wait (µs), generation, let through, as a probe, changed state, and of
-- one that has opened: for how long (µs), calls, failures, slow ones.
--
-- The first line asks for the strict rules of Redis 7: a server that may not write, or has no memory for more, refuses the
-- script before it has done anything.

local CLOSED, HALF_OPEN, OPEN = 0, 1, 2
local SLICES = 10
-- As in circuits.py.
local DAY = 86400 * 1000000

local call, floor, min = redis.call, math.floor, math.min
local key, verb, token = KEYS[1], ARGV[1], ARGV[2]
local lease, window, minimum = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local failure_ratio, slow_ratio = tonumber(ARGV[6]), tonumber(ARGV[7])
local open_first, open_most = tonumber(ARGV[8]), tonumber(ARGV[9])

local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local kept = {}
local flat = call('HGETALL', key)
for i = 1, #flat, 2 do
  kept[flat[i]] = flat[i + 1]
end

local function number(field)
  return tonumber(kept[field] or '0')
end

local state, generation = number('state'), number('generation')
local opened, tally = 0, { 0, 0, 0 }

local function answer(wait, through, probe, changed)
  return { state, floor(wait), generation, through, probe, changed, floor(opened), tally[1], tally[2], tally[3] }
end

local function keep(...)
  call('HSET', key, ...)
end

-- A circuit that nobody asks for is forgotten a day after the last of its times: by then a probe would hardly be missed.
local function expire(beyond)
  call('PEXPIRE', key, floor((beyond + lease + open_most + window + DAY) / 1000) + 1)
end

-- No instant lies further ahead than it is ever set, unless this server's clock went back or a release has made a time
-- shorter: then it is counted from now.
local function bound(field, most)
  if number(field) > now + most then
    kept[field] = string.format('%.0f', now + most)
    keep(field, kept[field])
  end
end

local function without_slices()
  for field in pairs(kept) do
    if string.sub(field, 1, 2) == 's:' then
      call('HDEL', key, field)
    end
  end
end

local function open(openings)
  opened = min(open_most, open_first * 2 ^ min(openings - 1, 40))
  state, generation = OPEN, generation + 1
  without_slices()
  call('HDEL', key, 'probe', 'probe_until')
  keep('state', state, 'generation', generation, 'openings', openings, 'until', string.format('%.0f', now + opened))
  expire(opened)
  return answer(opened, 0, 0, 1)
end

local function close()
  state, generation = CLOSED, generation + 1
  without_slices()
  call('HDEL', key, 'probe', 'probe_until', 'until')
  keep('state', state, 'generation', generation, 'closed_at', string.format('%.0f', now))
  expire(0)
  return answer(0, 0, 0, 1)
end

local function enter()
  if state == CLOSED then
    return answer(0, 1, 0, 0)
  end
  local changed = 0
  if state == OPEN then
    if now < number('until') then
      return answer(number('until') - now, 0, 0, 0)
    end
    state, changed = HALF_OPEN, 1
  end
  if kept.probe and kept.probe ~= token and now < number('probe_until') then
    return answer(number('probe_until') - now, 0, 0, 0)
  end
  keep('state', state, 'probe', token, 'probe_until', string.format('%.0f', now + lease))
  expire(0)
  return answer(0, 1, 1, changed)
end

local function count(failed, slow)
  local newest = floor(now / (window / SLICES))
  local fresh = 's:' .. string.format('%.0f', newest)
  kept[fresh] = kept[fresh] or '0 0 0'
  for field, value in pairs(kept) do
    local slice = string.match(field, '^s:(%d+)$')
    -- One that is still to come was counted by another clock, or in slices of another length: it would never leave.
    if slice and (tonumber(slice) <= newest - SLICES or tonumber(slice) > newest) then
      call('HDEL', key, field)
    elseif slice then
      local calls, failures, slows = string.match(value, '(%d+) (%d+) (%d+)')
      if field == fresh then
        calls, failures, slows = calls + 1, failures + failed, slows + slow
        keep(field, string.format('%d %d %d', calls, failures, slows))
      end
      tally[1], tally[2], tally[3] = tally[1] + calls, tally[2] + failures, tally[3] + slows
    end
  end
  expire(0)
end

local function record()
  local from, says, failed, slow = tonumber(ARGV[10]), ARGV[11] == '1', tonumber(ARGV[12]), tonumber(ARGV[13])
  if state == HALF_OPEN and kept.probe == token then
    if failed == 1 or slow == 1 then
      tally = { 1, failed, slow }
      return open(number('openings') + 1)
    elseif says then
      return close()
    end
    call('HDEL', key, 'probe', 'probe_until')
  elseif state == CLOSED and from == generation and says then
    count(failed, slow)
    local bad = tally[2] / tally[1] >= failure_ratio or slow_ratio > 0 and tally[3] / tally[1] >= slow_ratio
    if tally[1] >= minimum and bad then
      local grows = kept.closed_at and now - number('closed_at') < window
      return open(grows and number('openings') + 1 or 1)
    end
  end
  return answer(state == OPEN and number('until') - now or 0, 0, 0, 0)
end

bound('until', open_most)
bound('probe_until', lease)
bound('closed_at', 0)
if verb == 'enter' then
  return enter()
elseif verb == 'record' then
  return record()
end
if kept.probe == token then
  keep('probe_until', string.format('%.0f', now + lease))
  expire(0)
end
return answer(state == OPEN and number('until') - now or 0, 0, 0, 0)
