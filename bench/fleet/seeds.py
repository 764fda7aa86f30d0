"""Randomness that comes out the same again, and does not shift where another subject draws more of it."""

from __future__ import annotations

from math import exp
from random import Random

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


class Dice(Random):
    """A source of chance with a name. Sources of other names are independent of it."""

    def __init__(self, *name: object) -> None:
        self.name = "/".join(str(part) for part in name)
        super().__init__(self.name)

    def of(self, *name: object) -> Dice:
        """Return the source for a part of this subject."""
        return Dice(self.name, *name)

    def chance(self, probability: float) -> bool:
        """Return True in that share of the cases."""
        return self.random() < probability

    def spread(self, mean: float) -> float:
        """Return a positive number, exponentially spread about `mean`, cut at four times of it."""
        return min(self.expovariate(1 / mean), 4 * mean)

    def count(self, mean: float) -> int:
        """Return a whole number, Poisson-distributed about a small `mean`."""
        limit, product, number = exp(-mean), self.random(), 0
        while product > limit:
            product *= self.random()
            number += 1
        return number

    def hex(self, digits: int) -> str:
        """Return so many hexadecimal digits."""
        return f"{self.getrandbits(4 * digits):0{digits}x}"

    def uuid(self) -> str:
        """Return an identifier in the form of a version 4 UUID."""
        digits = self.hex(32)
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
