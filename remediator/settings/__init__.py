"""``remediator.yaml``: what the operator decides, as a form to fill in and as settings that can be used."""

from __future__ import annotations

from remediator.settings.form import (
    Approvals,
    Audit,
    Intake,
    Redis,
    Service,
    SettingsFile,
    Storage,
    User,
    Web,
    Worker,
    split_address,
)
from remediator.settings.reading import Settings, SettingsError, load_settings, settings_from_text

__all__ = [
    "Approvals",
    "Audit",
    "Intake",
    "Redis",
    "Service",
    "Settings",
    "SettingsError",
    "SettingsFile",
    "Storage",
    "User",
    "Web",
    "Worker",
    "load_settings",
    "settings_from_text",
    "split_address",
]
