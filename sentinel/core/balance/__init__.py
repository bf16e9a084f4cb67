"""Which endpoint: the arithmetic of all ways to balance, without the state and without the dice.

    turns      round-robin, random: by weights alone
    loads      least-request, power-of-two, peak-ewma, least-tokens: by what is in flight, and how long it takes
    reports    least-load: by what endpoints report of themselves
    prefixes   prefix-affinity: by how a prompt begins
    hashing    maglev, ring, ip-hash: by a key of the request
    sticky     by a signed cookie
    levels     who is asked at all: health, priority, locality, panic
    warming    slow start
    outliers   who is left out for what it did
    chooser    all of it together, for one upstream

What must be remembered and what falls by chance belong to the caller (`chooser.Scene`): live
traffic has shared memory, a dry run has nothing, a replay has what was recorded.
"""
