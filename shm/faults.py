"""What can be wrong with a region, for whoever runs the fleet.

Each fault names the culprit, the place and the remedy, since its reader is an
operator in front of a service that did not start. What our own code does wrong
(a slot out of range, a number that is not one) is IndexError, TypeError or
OverflowError instead, and has no remedy but a correction.
"""

from __future__ import annotations


class RegionFault(Exception):
    """A region that cannot be used: missing, damaged, another version's, or another user's."""

    def __init__(self, message: str, *, culprit: str, place: str, remedy: str) -> None:
        super().__init__(message, culprit, place, remedy)
        self.message = message
        self.culprit = culprit
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.place}: {self.message} ({self.culprit}); {self.remedy}"


class RegionBusy(RegionFault):
    """The name belongs to an instance that is alive; it was not touched."""


class RegionDamaged(RegionFault):
    """Words that only we write say what we never wrote; nothing in the region can be believed any more."""

    def __init__(self, message: str, place: str) -> None:
        super().__init__(
            message, culprit="somebody else wrote into it", place=place, remedy="the next start makes a new region"
        )


class RegionFull(RegionFault):
    """A bounded table has no room left."""
