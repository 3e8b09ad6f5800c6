"""Search: networks and settings within a budget in, the front of what they reach out."""

from smidgen.search.ledger import FrontRow
from smidgen.search.searching import SearchEvent, SearchResult, SearchStatus, search
from smidgen.search.study import SearchOptions

__all__ = [
    "FrontRow",
    "SearchEvent",
    "SearchOptions",
    "SearchResult",
    "SearchStatus",
    "search",
]
