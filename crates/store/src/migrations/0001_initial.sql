-- One row per task; `state` is the JSON of domain::TaskState, `kind` its word for filters and counts.
CREATE TABLE task (
    number INTEGER PRIMARY KEY,
    unix_seconds INTEGER NOT NULL,
    name TEXT,
    owner TEXT NOT NULL,
    created_at INTEGER NOT NULL, -- milliseconds since the epoch
    time_limit INTEGER NOT NULL, -- seconds
    recipe TEXT NOT NULL,
    warnings TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    progress TEXT NOT NULL,
    log_tail TEXT NOT NULL,      -- JSON array of the last lines
    removed_at INTEGER           -- the row stays as a tombstone: numbers are never used twice
) STRICT;
CREATE INDEX task_by_kind ON task (kind, number) WHERE removed_at IS NULL;

-- One row per launch; `ended_at` is null while its processes live or nobody has looked since.
CREATE TABLE attempt (
    task INTEGER NOT NULL REFERENCES task (number),
    number INTEGER NOT NULL,
    attempt TEXT NOT NULL,       -- JSON of domain::Attempt
    ended_at INTEGER,
    PRIMARY KEY (task, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_live ON attempt (task) WHERE ended_at IS NULL;

-- Every transition, for ever. Rows are only ever added.
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    task INTEGER NOT NULL,
    unix_seconds INTEGER NOT NULL,
    who TEXT NOT NULL,
    from_state TEXT,
    to_state TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT;
CREATE INDEX journal_by_task ON journal (task, seq);
CREATE TRIGGER journal_is_append_only_update BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_is_append_only_delete BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    password_hash TEXT,          -- null for the guest of the one-person default
    created_at INTEGER NOT NULL
) STRICT;

-- Sign-ins; the token itself is never stored.
CREATE TABLE session (
    token_sha256 BLOB PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
