"""PagerDuty: page people with ``pagerduty.trigger`` and call it off with ``pagerduty.resolve`` (Events API v2)."""
