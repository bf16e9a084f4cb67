"""The policy of the governed race: what every peer is told to do with a request, in figures.

A thousand routes; on each, two rate limits (one by the client's address, one by the header `x-client`), an upstream of
ten endpoints where the one with the fewest requests in flight is chosen, and endpoints that fail are left
alone for a while. The limits are so high that nobody is refused: what is measured is the asking.

What a peer has no equal for is given the nearest thing that costs it less, never more: Envoy's local rate limit has one
bucket for all clients in place of one for each.
"""

from __future__ import annotations

from typing import Final

ROUTES: Final = 1000
ENDPOINTS: Final = 10
LIMIT_PER_S: Final = 1_000_000
LIMIT_BURST: Final = 1_000_000
REFILL_S: Final = 600
"""Of Sentinel's limit by client: so long is a bucket live after one request, and longer than a race. With a million a
second it would be full again, and no longer in anybody's way, before the next request comes."""
REFILL_BURST: Final = 200_000
LIMIT_KEYS: Final = 1_000_000
FAILURES: Final = 5
OPEN_S: Final = 10
PATH: Final = "/service%d/v1/items/%d"
CLIENTS: Final = 1000
"""Different values of `x-client` that the load sends in turn."""
