"""The paths of one host: which candidates may match a path, without looking at the others.

    exact     one hash look-up
    prefixes  a trie of segments; walking down it once finds the longest prefix,
              and each entry knows the next shorter one that matches as well
    regex     kept at the trie node of their literal beginning, so that
              `/users/\\d+` is only tried below /users
    any       one list

All lists are sorted by rank, which is what makes "the first that holds" and
"the best so far" correct. A prefix ending in "/" needs something below it:
`/v1/` covers `/v1/` and `/v1/x`, but not `/v1`.

The walk is bounded by the deepest prefix of the plan, not by the path: a path of
four thousand segments costs what one of four does.

Who is looked at, and has a condition that does not hold, is noted in `lost`: why he lost is asked later,
and then the request is gone. That may be more than were better than the winner, and in another order.
"""

from __future__ import annotations

from sentinel.core.candidates import Candidate, Lost, PathKind
from sentinel.core.request import Request


class Entry:
    """Candidates of one prefix, and the entry of the next shorter prefix that covers the same paths."""

    __slots__ = ("candidates", "shorter")

    def __init__(self, candidates: tuple[Candidate, ...], shorter: Entry | None) -> None:
        self.candidates = candidates
        self.shorter = shorter


class Node(dict[str, "Node"]):
    """A place in the trie; keys are segments. A path that ends here uses `here`, one that goes on `below`."""

    __slots__ = ("below", "here", "own", "own_below", "own_regex", "regex")

    def __init__(self) -> None:
        self.own: list[Candidate] = []
        self.own_below: list[Candidate] = []
        self.own_regex: list[Candidate] = []
        self.here: Entry | None = None
        self.below: Entry | None = None
        self.regex: Entry | None = None

    def link(self, below: Entry | None, regex: Entry | None) -> None:
        """Make the entries, here and further down, once all candidates are in."""
        self.here = Entry(tuple(self.own), below) if self.own else below
        self.below = Entry(tuple(self.own_below), self.here) if self.own_below else self.here
        self.regex = Entry(tuple(self.own_regex), regex) if self.own_regex else regex
        for child in self.values():
            child.link(self.below, self.regex)


class PathIndex:
    """All candidates of one host. Filled in the order of rank, then sealed."""

    __slots__ = ("any", "depth", "exact", "regex_count", "root")

    def __init__(self) -> None:
        self.exact: dict[str, list[Candidate]] = {}
        self.root = Node()
        self.any: list[Candidate] = []
        self.depth = 0  # segments of the deepest prefix, counting the empty one before the first "/"
        self.regex_count = 0

    def add(self, candidate: Candidate) -> None:
        match candidate.path_kind:
            case PathKind.EXACT:
                self.exact.setdefault(candidate.path, []).append(candidate)
            case PathKind.PREFIX:
                if candidate.path.endswith("/"):
                    self._node(candidate.path[:-1].split("/")).own_below.append(candidate)
                else:
                    self._node(candidate.path.split("/")).own.append(candidate)
            case PathKind.REGEX:
                assert candidate.pattern is not None
                self.regex_count += 1
                self._node(candidate.pattern.prefix.split("/")[:-1]).own_regex.append(candidate)
            case PathKind.ANY:
                self.any.append(candidate)

    def seal(self) -> None:
        self.root.link(None, None)

    def first(self, request: Request, lost: list[Lost]) -> Candidate | None:
        """Return the first candidate that holds, in the order of specificity.

        Right wherever all candidates have one priority: then that is the order of rank.
        """
        path = request.path
        if path in self.exact:
            for candidate in self.exact[path]:
                if not candidate.tests or candidate.conditions_hold(request, lost):
                    return candidate
        if self.depth:
            node = self.root
            for segment in path.split("/", self.depth):
                child = node.get(segment)
                if child is None:
                    entry = node.below
                    break
                node = child
            else:
                entry = node.here
            while entry is not None:
                for candidate in entry.candidates:
                    if not candidate.tests or candidate.conditions_hold(request, lost):
                        return candidate
                entry = entry.shorter
            if self.regex_count:
                found = self._best_regex(node.regex, request, None, lost)
                if found is not None:
                    return found
        for candidate in self.any:
            if not candidate.tests or candidate.conditions_hold(request, lost):
                return candidate
        return None

    def best(self, request: Request, best: Candidate | None, lost: list[Lost]) -> Candidate | None:
        """Return the candidate of the lowest rank that holds, if it beats `best`.

        Looks at every list that covers the path, but into a list only until it
        cannot win any more. Needed where priorities differ.
        """
        best = _better(self.exact.get(request.path, ()), request, best, lost)
        node = self.root
        entry = node.below
        for segment in request.path.split("/", self.depth):
            child = node.get(segment)
            if child is None:
                entry = node.below
                break
            node = child
            entry = node.here
        while entry is not None:
            best = _better(entry.candidates, request, best, lost)
            entry = entry.shorter
        best = self._best_regex(node.regex, request, best, lost)
        return _better(self.any, request, best, lost)

    def _best_regex(
        self, entry: Entry | None, request: Request, best: Candidate | None, lost: list[Lost]
    ) -> Candidate | None:
        """Regexes rank by conditions and order, not by their place in the trie: compare all that may match."""
        path = request.path
        while entry is not None:
            for candidate in entry.candidates:
                if best is not None and candidate.rank > best.rank:
                    break
                pattern = candidate.pattern
                if pattern is not None and pattern.matches(path) and candidate.conditions_hold(request, lost):
                    best = candidate
                    break
            entry = entry.shorter
        return best

    def _node(self, segments: list[str]) -> Node:
        self.depth = max(self.depth, len(segments), 1)
        node = self.root
        for segment in segments:
            child = node.get(segment)
            if child is None:
                child = node[segment] = Node()
            node = child
        return node


def _better(
    candidates: list[Candidate] | tuple[Candidate, ...], request: Request, best: Candidate | None, lost: list[Lost]
) -> Candidate | None:
    for candidate in candidates:
        if best is not None and candidate.rank > best.rank:
            return best
        if candidate.conditions_hold(request, lost):
            return candidate
    return best
