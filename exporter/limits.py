"""The ratios at which InTarget may stop an account's sendings: for pages, alerts and dashboards alike.

Source: the vendor's Email API page. It says nothing of other channels.
"""

from __future__ import annotations

from typing import Final

BOUNCE_LIMIT: Final = 0.05
"""Bounced messages among those sent."""
COMPLAINT_LIMIT: Final = 0.0005
"""Complaints among the messages delivered."""
WARNING_SHARE: Final = 0.6
"""The share of a limit from which a ratio is near it."""
LIMITED_CHANNEL: Final = "email"
"""The channel that the limits are published for."""
