"""Numbers and lists in the words of a message: '1 photo', '2 photos', 'road, sky and 17 more'."""

from collections.abc import Iterable


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number and what it counts.

    Args:
      count: how many there are.
      noun: one of them.
      plural: several of them; "" where an s at the end is enough.

    Returns:
      Such as "0 photos", "1 photo" or "1,200 photos".
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def some(names: Iterable[object], most: int = 12) -> str:
    """The first of many names, so that a line stays a line where a user has thousands of them.

    Args:
      names: in order.
      most: how many of them are named.

    Returns:
      Such as "road, sky" or "road, sky and 17 more".
    """
    known = [str(name) for name in names]
    more = f" and {len(known) - most:,} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
