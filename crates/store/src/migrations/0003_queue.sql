-- What the order of the queue depends on. `after` is JSON of a list of domain::Dependency.
ALTER TABLE task ADD COLUMN priority TEXT NOT NULL DEFAULT '"normal"';
ALTER TABLE task ADD COLUMN after TEXT NOT NULL DEFAULT '[]';
ALTER TABLE task ADD COLUMN shares INTEGER NOT NULL DEFAULT 1;
ALTER TABLE task ADD COLUMN expected_seconds REAL; -- of a whole training; null: unknown
