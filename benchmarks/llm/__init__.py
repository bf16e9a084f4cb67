"""Gateways for language models, side by side: what a completion, a chunk and an open stream cost each of them.

Each is asked for the same completions of the same provider, a stub that costs next to nothing
(benchmarks.llm.provider); Sentinel with a token budget, accounting, metrics and its log on, the others with what they
do by default and no log. Cost is processor time of the peer's processes on a core of its own, by the requests that
came to their end; the method is that of benchmarks.peers, and so are its parts.

    whole     1 KiB each way, 64 connections
    short     a stream of one chunk: its beginning and its end
    stream    a stream of a hundred chunks, one each 5 ms: what it costs more than `short`, by 99, is a chunk
    first     how long until a stream's first chunk is there, against asking the provider directly
    open      memory of streams that are open and say nothing for a while
"""
