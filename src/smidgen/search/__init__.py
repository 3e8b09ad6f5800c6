"""Search: networks and settings within a budget in, the front of what they reach out."""

from smidgen.search.front import FrontRow
from smidgen.search.options import SearchOptions
from smidgen.search.result import SearchResult
from smidgen.search.searching import SearchEvent, SearchStatus, search

__all__ = [
    "FrontRow",
    "SearchEvent",
    "SearchOptions",
    "SearchResult",
    "SearchStatus",
    "search",
]
