"""Slack: messages to people with ``slack.post``, and their answers to questions."""
