"""What a store of shared snapshots has, and how it is changed: keys and Lua scripts. Pure.

Keys, where NAME says which clusters (in braces, so that all are on one node of a Redis cluster):
    ecs-discovery:1:{NAME}:lease     `EPOCH HOLDER`, gone when the lease is over
    ecs-discovery:1:{NAME}:epoch     the epoch given last; never gone
    ecs-discovery:1:{NAME}:snapshot  a hash: epoch, sequence, publisher and stamp of what was
                                     published; `observed`, in milliseconds of the store's clock;
                                     `content`, a whole document; `changes`, one on top of `since`
    ecs-discovery:1:{NAME}:changed   the channel that has the stamp of new content
The 1 is the version of this layout, and of the format of what is in it: another version has keys of
its own, and one of each holds a lease. Documents are as `/v1/snapshot` has them, compressed by zlib
after the SHA-256 of that.

What is compared and then changed is one script, so that nothing comes between. Each has all keys,
in the order of `keys`.

Needs Redis 6 or Valkey. A user that only follows needs, on these keys and channels, the commands
eval, hmget, hget, get, pttl, time and subscribe; one that may hold the lease also set, incr,
exists, del, pexpire, hset, publish and pubsub; select for another database than 0. `info` tells a
failover apart and may be missing.
"""

LAYOUT = 1


def keys(name: str) -> tuple[str, str, str, str]:
    """The lease, the epoch, the snapshot, and the channel."""
    prefix = f"ecs-discovery:{LAYOUT}:{{{name}}}:"
    return f"{prefix}lease", f"{prefix}epoch", f"{prefix}snapshot", f"{prefix}changed"


# An epoch is the time of its taking, in seconds of the store's clock, or more: so it is over all
# that were given before, though store and taker have forgotten them.
TAKE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local known = math.max(tonumber(ARGV[2]), tonumber(redis.call('HGET', KEYS[3], 'epoch') or '0'))
local least = math.max(known + 1, tonumber(redis.call('TIME')[1]))
local epoch = redis.call('INCR', KEYS[2])
if epoch < least then
  epoch = least
  redis.call('SET', KEYS[2], string.format('%d', epoch))
end
redis.call('SET', KEYS[1], string.format('%d', epoch) .. ' ' .. ARGV[1], 'NX', 'PX', ARGV[3])
return epoch
"""
RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', KEYS[4], 'released')
return 1
"""
FENCE = """
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[2], ARGV[1])
end
return 1
"""
READ = """
local at = redis.call('TIME')
local now = string.format('%d', at[1] * 1000 + math.floor(at[2] / 1000))
local left = redis.call('PTTL', KEYS[1])
local has = redis.call('HMGET', KEYS[3], 'stamp', 'since', 'observed')
if not has[1] or has[1] == ARGV[1] then return {left, now, has[1], has[2], has[3]} end
if ARGV[2] ~= '' and has[2] == ARGV[2] then
  return {left, now, has[1], has[2], has[3], redis.call('HGET', KEYS[3], 'changes')}
end
local whole = redis.call('HMGET', KEYS[3], 'changes', 'content')
if #(whole[1] or '') + #(whole[2] or '') > tonumber(ARGV[3]) then
  return redis.error_reply('TOOLARGE what was published is over ' .. ARGV[3] .. ' bytes')
end
return {left, now, has[1], has[2], has[3], whole[1], whole[2]}
"""
# 1: it is published. 0: another epoch is in force. 2: all of it is needed, as it is not there.
PUBLISH = """
local epoch, sequence = tonumber(ARGV[1]), tonumber(ARGV[2])
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local has = redis.call('HMGET', KEYS[3], 'epoch', 'sequence', 'publisher')
local e, s = tonumber(has[1] or '0'), tonumber(has[2] or '0')
if e > epoch or (e == epoch and s > sequence) then return 0 end
if e == epoch and has[3] ~= ARGV[3] then return 0 end
if ARGV[7] == '' and (e ~= epoch or s ~= sequence) then return 2 end
local at = redis.call('TIME')
local observed = string.format('%d', at[1] * 1000 + math.floor(at[2] / 1000) - ARGV[6])
redis.call('HSET', KEYS[3], 'epoch', ARGV[1], 'sequence', ARGV[2], 'publisher', ARGV[3],
  'stamp', ARGV[4], 'since', ARGV[5], 'observed', observed, 'changes', ARGV[8])
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[3], 'content', ARGV[7])
  redis.call('PUBLISH', KEYS[4], ARGV[4])
end
redis.call('PEXPIRE', KEYS[3], ARGV[9])
return 1
"""
