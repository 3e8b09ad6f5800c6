"""Search: networks and settings within a budget in, the front of what they reach out."""

from smidgen.search.ledger import FrontRow
from smidgen.search.options import SearchOptions
from smidgen.search.searching import SearchEvent, SearchResult, SearchStatus, search

__all__ = [
    "FrontRow",
    "SearchEvent",
    "SearchOptions",
    "SearchResult",
    "SearchStatus",
    "search",
]
