"""From a person's or model's words to the best passages. No word of a query is ever taken as query syntax."""

from collections.abc import Callable

from toolwright_server.toolkits.knowledge.results import Hit
from toolwright_server.toolkits.knowledge.store import Index

_WORDS_LIMIT = 32


def phrases(query: str) -> list[str]:
    """The query's words, each quoted for FTS5; what holds no letter or digit is left out."""
    words = dict.fromkeys(word for word in query.replace("\0", " ").split() if any(sign.isalnum() for sign in word))
    return ['"' + word.replace('"', '""') + '"' for word in list(words)[:_WORDS_LIMIT]]


def search(index: Index, query: str, prefix: str, limit: int, allowed: Callable[[str], bool]) -> list[Hit]:
    """Passages with all the words first, then those with some; only of files that are `allowed` by name."""
    words = phrases(query)
    if not words:
        return []
    hits = [hit for hit in index.search(" AND ".join(words), prefix, limit) if allowed(hit.file)]
    if len(hits) < limit and len(words) > 1:
        seen = {(hit.file, hit.start_line) for hit in hits}
        some = index.search(" OR ".join(words), prefix, limit + len(hits))
        hits += [hit for hit in some if (hit.file, hit.start_line) not in seen and allowed(hit.file)]
    return hits[:limit]
