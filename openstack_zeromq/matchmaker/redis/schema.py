"""What the bus keeps in Redis or Valkey, and the scripts that write it. All keys begin with `{zmq:<fabric>}:`.

    epoch              random; another one means that the store was wiped
    generation         hash: topic -> how often its members have changed; it only grows
    topics             set: every topic that has members
    topic:<topic>      sorted set: host -> when it expires, in ms of the server's clock
    members:<topic>    hash: host -> JSON [address, port, [servers]]
    left:<topic>       sorted set: hosts that said themselves that they do not serve it any more -> when that is forgotten (a day)
    hosts              sorted set: host -> when it expires
    beaten             when a node said last that it is there, in ms of the server's clock
    spared             until when nobody is buried: nobody had beaten for long, or the clock jumped, so the living come first
    host:<host>        hash: ttl (ms), heard (ms of the server's clock), topics (separated by NUL), by (the process that
                       registers it), at (its address), rival (the address of another machine of that name), disputed (when it
                       was refused last)
    changes:<topic>    channel: JSON [epoch, generation, what, host, member]; what is + (here, or changed), - (died) or < (left)

The scripts are not pure functions of their keys, so one prefix must lie on one server: the braces see to that in a cluster.
No key expires by itself. Whoever beats buries the dead, so the sets stay as small as the fabric is.
"""

PLUS = "+"
DIED = "-"
LEFT = "<"

_COMMON = """
local prefix = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = redis.call('GET', prefix .. 'epoch')

-- Whether this call may speak for the living: where nobody can say that he is there, nobody may be buried.
local renewed = false

-- A key that somebody else made with another type, or that may not be touched, stops neither other topics nor other hosts.
local broken = {}
local function try(command, key, ...)
    local answer = redis.pcall(command, prefix .. key, ...)
    if type(answer) == 'table' and answer.err then
        broken[key] = answer.err
        return nil
    end
    return answer
end

local function announce(topic, what, host, member)
    local generation = try('HINCRBY', 'generation', topic, 1)
    if generation then
        redis.call('PUBLISH', prefix .. 'changes:' .. topic, cjson.encode({epoch, generation, what, host, member}))
    end
end

local function remove(topic, host, what)
    if try('ZREM', 'topic:' .. topic, host) == 1 then
        try('HDEL', 'members:' .. topic, host)
        if what == '<' then
            try('ZREMRANGEBYSCORE', 'left:' .. topic, '-inf', now)
            try('ZADD', 'left:' .. topic, now + 86400000, host)
        end
        if try('ZCARD', 'topic:' .. topic) == 0 then
            try('SREM', 'topics', topic)
        end
        announce(topic, what, host, '')
    end
end

local function topics_of(host)
    return string.gmatch(try('HGET', 'host:' .. host, 'topics') or '', '[^%z]+')
end

-- For a while nobody could beat, or the clock has jumped: the living get the time of a life to say that they are there.
local function spare(ttl)
    local last = tonumber(try('GET', 'beaten') or '')
    if last and math.abs(now - last) > ttl / 2 then
        try('SET', 'spared', now + ttl)
    end
    renewed = try('SET', 'beaten', now) ~= nil
end

local function bury_the_dead()
    if not renewed or now < tonumber(try('GET', 'spared') or '0') then
        return
    end
    for _, host in ipairs(try('ZRANGEBYSCORE', 'hosts', '-inf', now, 'LIMIT', 0, 100) or {}) do
        for topic in topics_of(host) do
            remove(topic, host, '-')
        end
        redis.call('DEL', prefix .. 'host:' .. host)
        try('ZREM', 'hosts', host)
    end
end

-- The clock went back: who was heard in the future lives as long as it may from now on.
local function shorten(most)
    for _, host in ipairs(try('ZREVRANGEBYSCORE', 'hosts', '+inf', now + most, 'LIMIT', 0, 100) or {}) do
        local facts = try('HMGET', 'host:' .. host, 'ttl', 'heard') or {}
        local ttl, heard = tonumber(facts[1] or ''), tonumber(facts[2] or '')
        if not ttl or not heard or heard > now + 1000 then
            local expires = now + (ttl or most / 2)
            try('ZADD', 'hosts', expires, host)
            try('HSET', 'host:' .. host, 'heard', now)
            for topic in topics_of(host) do
                try('ZADD', 'topic:' .. topic, 'XX', expires, host)
            end
        end
    end
end

-- Two machines of one name would be taken for one. A process that was registered and finds another one in its place, elsewhere
-- and alive, is refused; the other one learns of it.
local function refused(host, by, at, registered)
    local other = try('HMGET', 'host:' .. host, 'by', 'at') or {}
    if registered ~= '1' or not other[1] or other[1] == by or other[2] == at then
        return nil
    end
    if (tonumber(try('ZSCORE', 'hosts', host) or '') or 0) <= now then
        return nil
    end
    try('HSET', 'host:' .. host, 'rival', at, 'disputed', now)
    return other[2]
end

local function rival(host, at)
    local facts = try('HMGET', 'host:' .. host, 'rival', 'disputed') or {}
    return facts[1] and facts[1] ~= at and now - tonumber(facts[2]) < 60000 and facts[1] or ''
end

local function reply(rival)
    local first = try('ZRANGE', 'hosts', 0, 0, 'WITHSCORES') or {}
    local complaints = {}
    for key, why in pairs(broken) do
        complaints[#complaints + 1] = prefix .. key .. ': ' .. why
    end
    local soonest = first[2] and math.max(0, math.ceil(first[2] - now)) or -1
    return {renewed and 1 or 0, soonest, try('ZCARD', 'hosts') or 0, complaints, rival or ''}
end
"""

BEAT = (
    _COMMON
    + """
local host, ttl, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local by, at = ARGV[5], ARGV[6]
local other = refused(host, by, at, ARGV[7])
if other then
    return reply(other)
end
spare(ttl)
if not renewed then
    return reply()
end
if not epoch then
    epoch = ARGV[4]
    redis.call('SET', prefix .. 'epoch', epoch)
end

local served = {}
local names = {}
for place = 8, #ARGV, 2 do
    local topic, member = ARGV[place], ARGV[place + 1]
    served[topic] = true
    names[#names + 1] = topic
    local expires = tonumber(try('ZSCORE', 'topic:' .. topic, host) or '')
    local before = try('HGET', 'members:' .. topic, host)
    try('ZADD', 'topic:' .. topic, now + ttl, host)
    if not expires or expires <= now or before ~= member then
        try('HSET', 'members:' .. topic, host, member)
        try('ZREM', 'left:' .. topic, host)
        try('SADD', 'topics', topic)
        announce(topic, '+', host, member)
    end
end
for topic in topics_of(host) do
    if not served[topic] then
        remove(topic, host, '<')
    end
end
try('ZADD', 'hosts', now + ttl, host)
try('HSET', 'host:' .. host, 'ttl', ttl, 'heard', now, 'topics', table.concat(names, '\\0'), 'by', by, 'at', at)
shorten(most)
bury_the_dead()
return reply(rival(host, at))
"""
)
"""KEYS: prefix. ARGV: host, ttl (ms), the longest ttl that is believed (ms), an epoch for an empty store, a name of this process,
its address with the port, whether it was registered before (1, 0), then topic, member, …

Returns whether the node is registered (1, 0), ms until the first host expires (-1: there is none), how many hosts there are,
what was wrong with which keys, and the address of another machine that registers under this name (or nothing)."""

BURY = (
    _COMMON
    + """
spare(tonumber(ARGV[1]))
bury_the_dead()
return reply()
"""
)
"""KEYS: prefix. ARGV: ttl (ms). Removes who expired; returns what BEAT returns."""


SEED = (
    _COMMON
    + """
local host, ttl = ARGV[1], tonumber(ARGV[2])
if not epoch then
    epoch = ARGV[3]
    redis.call('SET', prefix .. 'epoch', epoch)
end

local expires = now + ttl
local names, known = {}, {}
for topic in topics_of(host) do
    names[#names + 1] = topic
    known[topic] = true
end
for place = 4, #ARGV, 2 do
    local topic, member = ARGV[place], ARGV[place + 1]
    local before = try('HGET', 'members:' .. topic, host)
    local until_ = tonumber(try('ZSCORE', 'topic:' .. topic, host) or '')
    try('ZADD', 'topic:' .. topic, math.max(expires, until_ or 0), host)
    if not until_ or until_ <= now or before ~= member then
        try('HSET', 'members:' .. topic, host, member)
        try('ZREM', 'left:' .. topic, host)
        try('SADD', 'topics', topic)
        announce(topic, '+', host, member)
    end
    if not known[topic] then
        names[#names + 1] = topic
        known[topic] = true
    end
end
if expires > tonumber(try('ZSCORE', 'hosts', host) or '0') then
    try('ZADD', 'hosts', expires, host)
    try('HSET', 'host:' .. host, 'ttl', ttl, 'heard', now)
end
try('HSET', 'host:' .. host, 'topics', table.concat(names, '\\0'))
return reply()
"""
)
"""KEYS: prefix. ARGV: host, ttl (ms), an epoch for an empty store, then topic, member, …

Somebody says for a node that it serves these topics, besides those that it has; nobody else's life depends on it. Returns what
BEAT returns."""

DISMISS = (
    _COMMON
    + """
local what, count = ARGV[1], tonumber(ARGV[2])
for place = 3, 2 + 2 * count, 2 do
    local topic, host = ARGV[place], ARGV[place + 1]
    local dead = what ~= '-' or (tonumber(try('ZSCORE', 'topic:' .. topic, host) or '') or math.huge) <= now
    if dead then
        local kept = {}
        for name in topics_of(host) do
            if name ~= topic then
                kept[#kept + 1] = name
            end
        end
        if try('EXISTS', 'host:' .. host) == 1 then
            try('HSET', 'host:' .. host, 'topics', table.concat(kept, '\\0'))
        end
        remove(topic, host, what)
    end
end
for place = 3 + 2 * count, #ARGV do
    local host = ARGV[place]
    if what ~= '-' or (tonumber(try('ZSCORE', 'hosts', host) or '') or math.huge) <= now then
        redis.call('DEL', prefix .. 'host:' .. host)
        try('ZREM', 'hosts', host)
    end
end
return reply()
"""
)
"""KEYS: prefix. ARGV: `<` or `-` (then only who has expired), how many pairs, then topic, host, …, then hosts to forget.

Somebody says for nodes that they do not serve these topics any more. Returns what BEAT returns."""


def prefix(fabric: str) -> str:
    """What every key of a fabric begins with."""
    return f"{{zmq:{fabric}}}:"
