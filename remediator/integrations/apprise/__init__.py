"""Everything else that can carry a message (Teams, Discord, Telegram, SMS …), by way of the library Apprise."""
