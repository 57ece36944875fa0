"""Messages about failures: one line each, from errors of several pages."""

from collections.abc import Iterator, Sequence

from genjax.training.checkpoint.digest import DamagedError


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def mentions(error: BaseException, texts: Sequence[str]) -> bool:
    """Whether the error, or one that led to it, says one of the texts, in any case."""
    said = "\n".join(str(link) for link in chain(error)).lower()
    return any(text.lower() in said for text in texts)


def short(error: BaseException) -> str:
    """Its first line, at most 160 characters, behind its type."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if len(lines[0]) <= 160 else lines[0][:157] + "..."
    return (
        text if isinstance(error, DamagedError) else f"{type(error).__name__}: {text}"
    )


def some(names: Sequence[str], separator: str = ", ", limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f"{separator}and {len(names) - limit} more" if len(names) > limit else ""
    return separator.join(names[:limit]) + more
