#!lua
-- The counters that one call takes from. What a verb does it does in one go, all or nothing, by the clock of this server.
--
-- KEYS: one for each check; then, unless a place that is enforced says which calls are counted, or when a day or month is
-- among them, one mark for each token: when its call was counted and by which checks, kept as long as the call runs.
-- ARGV: verb, lease (µs), number of checks; for each check kind, limit, window (µs), shadow (0, 1); then the tokens.
--
-- What is kept: W (window) a sorted set token -> instant, R (running) a sorted set token -> end of its lease, D (day)
-- and M (month) a hash of the period and the count in it. Every key expires by itself.
--
-- The first line asks for the strict rules of Redis 7: a server that may not write, or has no memory for more, refuses the
-- script before it has done anything.
--
-- The answer of take and read: status, numbers of checks (the one that refuses, or those that are over in shadow), then
-- used and reset (µs) of each.

local REFUSED, TAKEN, HELD, READ = 0, 1, 2, 3
local DAY = 86400 * 1000000
local LENGTHS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local call, floor = redis.call, math.floor
local verb, lease, checks = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local first_token = 4 + 4 * checks

local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local kinds, limits, windows, shadows = {}, {}, {}, {}
for i = 1, checks do
  kinds[i], limits[i] = ARGV[4 * i], tonumber(ARGV[4 * i + 1])
  windows[i], shadows[i] = tonumber(ARGV[4 * i + 2]), ARGV[4 * i + 3] == '1'
end

-- Number and end (µs) of the day or month, in UTC, that an instant lies in.
-- The civil calendar from days: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
local function period(kind, instant)
  local day = floor(instant / DAY)
  if kind == 'D' then
    return day, (day + 1) * DAY
  end
  local shifted = day + 719468
  local era = floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local year_of_era =
    floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year_of_era + floor(year_of_era / 4) - floor(year_of_era / 100))
  local from_march = floor((5 * of_year + 2) / 153)
  local of_month = of_year - floor((153 * from_march + 2) / 5) + 1
  local month = from_march < 10 and from_march + 3 or from_march - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  local length = LENGTHS[month]
  if month == 2 and (year % 4 == 0 and year % 100 ~= 0 or year % 400 == 0) then
    length = 29
  end
  return year * 12 + month, (day - of_month + 1 + length) * DAY
end

-- How much a counter holds now; what has run out is forgotten.
local function count(i)
  local kind, key = kinds[i], KEYS[i]
  if kind == 'W' then
    call('ZREMRANGEBYSCORE', key, '-inf', now - windows[i])
    return call('ZCARD', key)
  elseif kind == 'R' then
    call('ZREMRANGEBYSCORE', key, '-inf', now)
    return call('ZCARD', key)
  end
  local kept = call('HMGET', key, 'period', 'used')
  return tonumber(kept[1]) == period(kind, now) and tonumber(kept[2]) or 0
end

-- Until one more fits (µs); until a day or month begins anew. When a running call ends nobody knows: 0.
local function reset(i, used)
  local kind = kinds[i]
  if kind == 'D' or kind == 'M' then
    local _, ends = period(kind, now)
    return ends - now
  elseif kind == 'R' or used < limits[i] then
    return 0
  end
  local place = used - limits[i]
  local found = call('ZRANGE', KEYS[i], place, place, 'WITHSCORES')
  return found[2] and tonumber(found[2]) + windows[i] - now or windows[i]
end

-- Keep a key as long as its longest lease.
local function expire(key)
  local milliseconds = floor(lease / 1000) + 1
  if call('PTTL', key) < milliseconds then
    call('PEXPIRE', key, milliseconds)
  end
end

local function add(i, used, token)
  local kind, key = kinds[i], KEYS[i]
  if kind == 'W' then
    -- A token that was taken under before, in a call that has ended, counts once more.
    if call('ZADD', key, 'NX', now, token) == 0 then
      call('ZADD', key, now, token .. ':' .. now)
    end
    call('PEXPIRE', key, floor(windows[i] / 1000) + 1)
  elseif kind == 'R' then
    call('ZADD', key, now + lease, token)
    expire(key)
  else
    local name, ends = period(kind, now)
    call('HSET', key, 'period', name, 'used', used + 1)
    call('PEXPIREAT', key, floor(ends / 1000))
  end
end

-- Whether the call of this token is counted already: its mark says so, or its place.
local function holds(token, mark)
  if mark and call('EXISTS', mark) == 1 then
    return true
  end
  for i = 1, checks do
    local lease_end = kinds[i] == 'R' and not shadows[i] and call('ZSCORE', KEYS[i], token)
    if lease_end and tonumber(lease_end) > now then
      return true
    end
  end
  return false
end

-- A place that is lost, with the store's memory or with its lease, is only taken again by whoever knows that it was held.
local function renew(token, mark, only_held)
  for i = 1, checks do
    if kinds[i] == 'R' then
      call('ZADD', KEYS[i], (only_held or shadows[i]) and 'XX' or 'CH', now + lease, token)
      expire(KEYS[i])
    end
  end
  if mark then
    call('PEXPIRE', mark, floor(lease / 1000) + 1)
  end
end

local function readings(status, named, used)
  local answer = { status, table.concat(named, ' ') }
  for i = 1, checks do
    answer[#answer + 1] = used[i]
    answer[#answer + 1] = reset(i, used[i])
  end
  return answer
end

local function counts()
  local used = {}
  for i = 1, checks do
    used[i] = count(i)
  end
  return used
end

-- The check that refuses: of several, the one that refuses longest.
local function refusal(used)
  local refused, longest = 0, -1
  for i = 1, checks do
    if used[i] >= limits[i] and not shadows[i] then
      local wait = reset(i, used[i])
      if wait > longest then
        refused, longest = i, wait
      end
    end
  end
  return refused
end

local function take(token, mark)
  local used, over = counts(), {}
  if holds(token, mark) then
    renew(token, mark, true)
    return readings(HELD, over, used)
  end
  local refused = refusal(used)
  if refused > 0 then
    return readings(REFUSED, { refused }, used)
  end
  local taken = {}
  for i = 1, checks do
    -- What is over in shadow is let in and not counted.
    if used[i] < limits[i] then
      add(i, used[i], token)
      used[i] = used[i] + 1
      taken[#taken + 1] = i
    else
      over[#over + 1] = i
    end
  end
  if mark then
    local text = string.format('%.0f %s ', now, table.concat(taken, ' '))
    call('SET', mark, text, 'PX', floor(lease / 1000) + 1)
  end
  return readings(TAKEN, over, used)
end

local function give_back(token, mark)
  if not holds(token, mark) then
    return
  end
  local text = mark and call('GET', mark)
  local began = text and tonumber(string.match(text, '^%d+'))
  for i = 1, checks do
    local kind, key = kinds[i], KEYS[i]
    if kind == 'W' or kind == 'R' then
      call('ZREM', key, token)
    elseif text and string.find(text, ' ' .. i .. ' ', 1, true) then
      local kept = call('HMGET', key, 'period', 'used')
      if tonumber(kept[1]) == period(kind, began) and tonumber(kept[2]) > 0 then
        call('HINCRBY', key, 'used', -1)
      end
    end
  end
  if mark then
    call('DEL', mark)
  end
end

local function release(token, mark)
  for i = 1, checks do
    if kinds[i] == 'R' then
      call('ZREM', KEYS[i], token)
    end
  end
  if mark then
    call('DEL', mark)
  end
end

if verb == 'take' then
  return take(ARGV[first_token], KEYS[checks + 1])
elseif verb == 'read' then
  return readings(READ, {}, counts())
end
for i = first_token, #ARGV do
  local token, mark = ARGV[i], KEYS[checks + 1 + i - first_token]
  if verb == 'give_back' then
    give_back(token, mark)
  elseif verb == 'release' then
    release(token, mark)
  else
    renew(token, mark, verb ~= 'restore')
  end
end
return 0
