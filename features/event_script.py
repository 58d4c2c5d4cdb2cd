"""What Redis does with a call's events, atomically, as one Lua script.

Keys, all of one subject below its keyed hash: `nba:e:SUBJECT` is what was counted before the events that are kept;
`:ids` are the event ids that were taken, by time; `:purchase`, `:contact` and `:case` the events themselves, by time,
the last with a sign before each (+ opened, - resolved). Times are microseconds since 1970.

The first is a MessagePack map: `us`, the time of the row we wrote last; `p`, `pt` and `c`, `ct`, the purchases and
contacts of a row that somebody else wrote, and its time; `o`, the open cases before the first that is kept; `n` and
`nt`, the last answer, as Feast has it, and its time; `has`, which of the others there are, so that a call of many
customers touches no key in vain. What is not in it is unknown.

A row whose time is not ours was written in bulk. It stands for all that was reported by then: its counts are taken
over, and events kept from before its time are dropped.
"""

from __future__ import annotations

from features.redis_pipe import Script

# keys: a subject's row of features, counts, ids, purchases, contacts and cases, each; arguments: now, how far ahead of
# it a row's time may be, the windows of purchases and contacts and the longest of all, how many events of a kind and
# how many cases are kept, the row's fields for purchases, contacts, open cases, answer and time; then for each subject
# how many events, and for each of these kind (p, c, +, -, n), id (= given, ~ made up), time, and the answer.
# -> {how many were taken, how many had been taken before}
TAKE = Script.of(
    """
local now, skew, year = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[5])
local windows, lifetime = {tonumber(ARGV[3]), tonumber(ARGV[4])}, math.ceil(year / 1000)
local kept, kept_cases = tonumber(ARGV[6]), tonumber(ARGV[7])

local function read_number(raw, at)
  local number, scale = 0, 1
  for i = at, #raw do
    local byte = string.byte(raw, i)
    number, scale = number + byte % 128 * scale, scale * 128
    if byte < 128 then return number, i + 1 end
  end
end

local function number(n)
  local bytes = {}
  while n >= 128 do
    bytes[#bytes + 1] = string.char(n % 128 + 128)
    n = math.floor(n / 128)
  end
  return table.concat(bytes) .. string.char(n)
end

local function count_of(raw)
  if not raw or string.byte(raw) ~= 32 then return nil end
  local n, stop = read_number(raw, 2)
  return stop == #raw + 1 and n < 2 ^ 31 and n or nil
end

local function answer_of(raw)
  return raw and #raw == 9 and string.byte(raw) == 41 and raw or nil
end

local function time_of(raw)
  if not raw or raw == '' then return nil end
  local seconds, nanos, at = 0, 0, 1
  if string.byte(raw, at) == 8 then seconds, at = read_number(raw, 2) end
  if at and string.byte(raw, at) == 16 then nanos, at = read_number(raw, at + 1) end
  return at == #raw + 1 and seconds < 2 ^ 33 and seconds * 1000000 + math.floor(nanos / 1000) or nil
end

local function time(us)
  local seconds = math.floor(us / 1000000)
  local nanos = (us - seconds * 1000000) * 1000
  return string.char(8) .. number(seconds) .. (nanos > 0 and string.char(16) .. number(nanos) or '')
end

local function taken_over(key, row, held)
  local at = time_of(row[5])
  if at == held.us or not at or at > now + skew then return end
  for i in pairs(held.has) do
    if i > 2 then redis.call('ZREMRANGEBYSCORE', KEYS[key + i], '-inf', at) end
  end
  held.p, held.pt, held.c, held.ct, held.o, held.us = count_of(row[1]), at, count_of(row[2]), at, count_of(row[3]), at
  if not held.nt or held.nt <= at then held.n, held.nt = answer_of(row[4]), at end
end

local function trimmed(key, has, i, since)
  if not has[i] then return 0 end
  redis.call('ZREMRANGEBYSCORE', KEYS[key + i], '-inf', since)
  local n = redis.call('ZCARD', KEYS[key + i])
  if n > kept then redis.call('ZREMRANGEBYRANK', KEYS[key + i], 0, n - kept - 1) end
  if n == 0 then has[i] = nil end
  return math.min(n, kept)
end

local function windowed(key, has, i, base, base_at, window)
  if not base and not has[i] then return nil, nil end
  return base or 0, (base_at and now < base_at + window and base or 0) + trimmed(key, has, i, now - window)
end

local function open_cases(key, has, base)
  local events = has[5] and redis.call('ZRANGE', KEYS[key + 5], 0, -1, 'WITHSCORES') or {}
  if not base and #events == 0 then return nil, nil end
  local open, before = base or 0, 0
  for i = 1, #events, 2 do
    open = string.byte(events[i]) == 43 and open + 1 or math.max(0, open - 1)
    if tonumber(events[i + 1]) <= now - year or (#events - i + 1) / 2 > kept_cases then
      base, before = open, before + 1
    end
  end
  if before > 0 then redis.call('ZREMRANGEBYRANK', KEYS[key + 5], 0, before - 1) end
  if 2 * before == #events then has[5] = nil end
  return base or 0, open
end

local function stored(count)
  return count and string.char(32) .. number(count) or ''
end

local function publish(key, held)
  local purchases, contacts, open
  held.p, purchases = windowed(key, held.has, 3, held.p, held.pt, windows[1])
  held.c, contacts = windowed(key, held.has, 4, held.c, held.ct, windows[2])
  held.o, open = open_cases(key, held.has, held.o)
  trimmed(key, held.has, 2, now - year)
  local answer = held.nt and held.nt > now - year and held.n or ''
  held.us = held.us and held.us <= now + skew and math.max(now, held.us + 1) or now
  redis.call('HSET', KEYS[key], ARGV[8], stored(purchases), ARGV[9], stored(contacts), ARGV[10], stored(open),
    ARGV[11], answer, ARGV[12], time(held.us))
  redis.call('SET', KEYS[key + 1], cmsgpack.pack(held), 'PX', lifetime)
  for i in pairs(held.has) do redis.call('PEXPIRE', KEYS[key + i], lifetime) end
end

local function add(key, has, i, at, member)
  has[i] = true
  return redis.call('ZADD', KEYS[key + i], 'NX', at, member) == 1
end

local function take(key, held, kind, id, at, answer)
  if string.byte(id) == 61 and not add(key, held.has, 2, at, id) then return false end
  if kind == 'p' then add(key, held.has, 3, at, id)
  elseif kind == 'c' then add(key, held.has, 4, at, id)
  elseif kind ~= 'n' then add(key, held.has, 5, at, kind .. id)
  elseif not held.nt or held.nt <= tonumber(at) then held.n, held.nt = answer, tonumber(at) end
  return true
end

-- What could fail is read first: then nothing of the call is written.
local rows, states = {}, {}
for key = 1, #KEYS, 6 do
  rows[key] = redis.call('HMGET', KEYS[key], unpack(ARGV, 8, 12))
  local state = redis.call('GET', KEYS[key + 1])
  states[key] = state and cmsgpack.unpack(state) or {has = {}}
end

local accepted, duplicates, i = 0, 0, 13
for key = 1, #KEYS, 6 do
  local held, before = states[key], accepted
  taken_over(key, rows[key], held)
  local last = i + 4 * tonumber(ARGV[i])
  while i < last do
    if take(key, held, unpack(ARGV, i + 1, i + 4)) then accepted = accepted + 1 else duplicates = duplicates + 1 end
    i = i + 4
  end
  i = i + 1
  if accepted > before then publish(key, held) end
end
return {accepted, duplicates}
"""
)
