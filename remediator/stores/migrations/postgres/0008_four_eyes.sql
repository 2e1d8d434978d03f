-- Whose yes does not count: who answers for a rule does not let it through where four eyes are asked for.
ALTER TABLE approval ADD COLUMN barred TEXT NOT NULL DEFAULT '[]';
