"""Guards, one per file: each asks one question before an effect, and answers allow, hold or deny, and why."""
