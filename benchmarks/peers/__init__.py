"""Side by side: Sentinel and its peers on one machine, under one load, in turn.

Intuition: a race on a track whose wind changes. Times of one runner prove nothing; let all run
again and again in turn, and compare each with the one who ran just before. What is compared
is not the time but the effort: processor microseconds per request of the process that
moves the octets, which a busy neighbour disturbs far less than it disturbs a rate.

Run with `python -m benchmarks.peers`. Files:

    __main__    the command line                    wrk        the load, and what it says
    site        cores, ports, child processes       gauge      processor time and memory of processes
    race        rounds, medians, paired ratios      report     table and JSON; plot: SVG
    idle, routes   the other two questions: memory of an idle connection, cost of ten thousand routes
    origin, relay  two small servers in uvloop: the fallback upstream, and the bare relay
    nginx, haproxy, envoy, caddy, relay_peer, sentinel_peer   one peer each

Rules:
1. Every peer does the same work: kept-alive connections on both sides, a JSON access log with the same fields
   in a file, counters on, forwarding fields and a request id for the upstream and the client.
   The bare relay does none of that: it is the floor under a proxy in Python.
2. One worker, on a core of its own. Load, upstream, and whatever else the peer runs are on the other.
3. A run with one failed request counts for nothing, and says so.
4. A peer that is not installed is named and skipped. Nothing is vendored.
"""
