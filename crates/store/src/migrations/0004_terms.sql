-- JSON of domain::Terms: when a task may and should run, and how it is treated beside others.
ALTER TABLE task ADD COLUMN terms TEXT NOT NULL DEFAULT '{}';
-- Number of the first task of its group.
ALTER TABLE task ADD COLUMN group_first INTEGER;
CREATE INDEX task_by_group ON task (group_first, number) WHERE group_first IS NOT NULL;

-- What people have switched; JSON by key, such as `control` for domain::Control.
CREATE TABLE setting (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What was expected of a task when it joined the queue, and what came of it; milliseconds since the epoch.
CREATE TABLE forecast (
    task INTEGER PRIMARY KEY,
    made_at INTEGER NOT NULL,
    starts_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER
) STRICT;

-- For the GPU time that users had of late.
CREATE INDEX attempt_ended ON attempt (ended_at) WHERE ended_at IS NOT NULL;
