"""The endpoints and fields of the API: the one place that names them."""

from __future__ import annotations

from typing import Final

STATISTICS: Final = "statistics"
CONVERSIONS: Final = "conversions"
ENDPOINTS: Final = (STATISTICS, CONVERSIONS)
"""Values of the label ``endpoint``."""

COUNTER_FIELDS: Final = (
    "skipped",
    "sent",
    "delivered",
    "opened",
    "clicked",
    "bounced",
    "softBounced",
    "rejected",
    "failed",
    "temporaryFailed",
    "complaint",
    "unsubscribed",
)
"""The twelve counts of a statistics row, by their names in the API. Every tuple of counts has this order."""
