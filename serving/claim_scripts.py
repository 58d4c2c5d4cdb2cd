"""What Redis does for the claims, each atomically, as Lua scripts.

Keys, all below one prefix: `epoch` holds "epoch:run_id" of the server that was trusted last; `rebuild` is the lock of
who refills; `d:ID` is one claim, a hash of fingerprint, epoch, committed (0 or 1) and record (JSON, of
which the epoch does not count); `r:ID` are the
rewards of one decision, a hash of `k:KEY` (committed, then what was said) and `o:OUTCOME` (the key that said it).

Scripts that answer the server begin by comparing the epoch key with what the caller trusts, so that an emptied,
older or rebuilt store is noticed in the same breath; they answer {0, what the key holds} where it differs.
"""

from __future__ import annotations

from features.consent import RESTORE as RESTORE_CONSENT
from features.redis_pipe import Script

_TRUSTED = """
local current = redis.call('GET', KEYS[1])
if current ~= ARGV[1] then return {0, current} end
"""

# keys: epoch, a claim each; arguments: trusted, ttl in ms, epoch, then fingerprint and record each.
# -> {1, then for each 1 where new, else {1 where of the same fingerprint, committed, epoch, record}}
# A claim that is not known to be logged is taken into the present epoch, and has to be logged in that: a claim of an
# epoch in between, still on its way to the log, would otherwise come to outrank what is answered now.
CLAIM = Script.of(
    _TRUSTED
    + """
local answers = {1}
for i = 2, #KEYS do
  local fingerprint, record = ARGV[2 * i], ARGV[2 * i + 1]
  local known = redis.call('HMGET', KEYS[i], 'fingerprint', 'committed', 'epoch', 'record')
  if known[1] then
    local same = known[1] == fingerprint
    if same and known[2] ~= '1' and known[3] ~= ARGV[3] then
      redis.call('HSET', KEYS[i], 'epoch', ARGV[3])
      known[3] = ARGV[3]
    end
    answers[i] = {same and 1 or 0, known[2], known[3], known[4]}
  else
    redis.call('HSET', KEYS[i], 'fingerprint', fingerprint, 'epoch', ARGV[3], 'committed', '0', 'record', record)
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    answers[i] = 1
  end
end
return answers
"""
)

# keys: epoch, a claim each; arguments: trusted, an epoch each.
# -> {1, then for each 1 where that is the present epoch and the claim's, and it is now committed, else 0}
COMMIT = Script.of(
    _TRUSTED
    + """
local answers, present = {1}, string.match(current, '^%d+')
for i = 2, #KEYS do
  local mine = ARGV[i] == present and redis.call('HGET', KEYS[i], 'epoch') == present
  if mine then redis.call('HSET', KEYS[i], 'committed', '1') end
  answers[i] = mine and 1 or 0
end
return answers
"""
)

# keys: epoch, the claim; arguments: trusted. -> {1, epoch and record, or nothing twice}
FIND = Script.of(
    _TRUSTED
    + """
local known = redis.call('HMGET', KEYS[2], 'epoch', 'record')
return {1, known[1], known[2]}
"""
)

# keys: epoch, the decision's rewards; arguments: trusted, ttl in ms, `k:` field, what is said, `o:` field, once.
# -> {1, status}. An outcome that counts once is taken only where it is known to be logged: whoever claimed it first
# may have died before that, and readers count one of two anyway.
REWARD = Script.of(
    _TRUSTED
    + """
local known = redis.call('HGET', KEYS[2], ARGV[3])
if known then
  if string.sub(known, 2) ~= ARGV[4] then return {1, 'conflict'} end
  return {1, string.sub(known, 1, 1) == '1' and 'duplicate' or 'pending'}
end
local other = ARGV[6] == '1' and redis.call('HGET', KEYS[2], ARGV[5])
if other and string.sub(redis.call('HGET', KEYS[2], other) or '0', 1, 1) == '1' then return {1, 'duplicate'} end
redis.call('HSET', KEYS[2], ARGV[3], '0' .. ARGV[4], ARGV[5], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {1, 'new'}
"""
)

# keys: the decision's rewards; arguments: `k:` field, what was said. -> 1 where marked
COMMIT_REWARD = Script.of(
    """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= '0' .. ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], '1' .. ARGV[2])
return 1
"""
)

# keys: a claim each; arguments: ttl in ms, fingerprint, epoch and record each. The higher epoch wins. None counts as
# committed: what was read may not have been synced.
RESTORE = Script.of(
    """
for i = 1, #KEYS do
  local ttl, fingerprint, epoch, record = unpack(ARGV, 4 * i - 3, 4 * i)
  local known = redis.call('HGET', KEYS[i], 'epoch')
  if not known or tonumber(known) < tonumber(epoch) then
    redis.call('HSET', KEYS[i], 'fingerprint', fingerprint, 'epoch', epoch, 'committed', '0', 'record', record)
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
end
return 1
"""
)

# keys: a decision's rewards each; arguments: ttl in ms, `k:` field, what was said and `o:` field each.
RESTORE_REWARD = Script.of(
    """
for i = 1, #KEYS do
  local ttl, key, said, outcome = unpack(ARGV, 4 * i - 3, 4 * i)
  redis.call('HSETNX', KEYS[i], key, '0' .. said)
  redis.call('HSETNX', KEYS[i], outcome, key)
  redis.call('PEXPIRE', KEYS[i], ttl)
end
return 1
"""
)

# keys: the lock; arguments: its holder, ttl in ms. -> 1 while the lock is the holder's
HOLD = Script.of(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
)

# keys: the lock; arguments: its holder. -> 1 where it was the holder's
RELEASE = Script.of(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
)

# keys: epoch, the lock; arguments: its holder, the least epoch, run_id. -> the new epoch key, or nothing where the lock
# went to another. An epoch is never used twice, also where one was begun, nothing was logged in it, and the store was
# emptied: hence at least the microseconds of the server's clock, beside being more than every epoch that is known.
FINISH = Script.of(
    """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end
local now, last = redis.call('TIME'), string.match(redis.call('GET', KEYS[1]) or '0', '^%d+')
local epoch = math.max(tonumber(ARGV[2]), tonumber(last) + 1, tonumber(now[1]) * 1000000 + tonumber(now[2]))
local current = string.format('%.0f', epoch) .. ':' .. ARGV[3]
redis.call('SET', KEYS[1], current)
redis.call('DEL', KEYS[2])
return current
"""
)

ALL = (CLAIM, COMMIT, FIND, REWARD, COMMIT_REWARD, RESTORE, RESTORE_REWARD, RESTORE_CONSENT, HOLD, RELEASE, FINISH)
