"""Anything that takes JSON over HTTP as news: ``webhook.post``, signed after the Standard Webhooks specification."""
