-- `owner`, `member` or `viewer`, and JSON of domain::Allowance.
ALTER TABLE account ADD COLUMN role TEXT NOT NULL DEFAULT 'member';
ALTER TABLE account ADD COLUMN allowance TEXT NOT NULL DEFAULT '{}';
-- Until now whoever could sign in could do everything. The first who could keeps that, the others become members.
UPDATE account SET role = 'owner' WHERE id = (SELECT min(id) FROM account WHERE password_hash IS NOT NULL);
-- Made by the studio for the owner of the machine.
UPDATE account SET role = 'owner' WHERE password_hash IS NULL AND username <> 'guest';

-- Sign-ins end now; people sign in again. The secret itself is never stored.
DROP TABLE session;
CREATE TABLE session (
    secret_sha256 BLOB PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER           -- null: of this machine's command line, as long as the studio runs
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_account ON session (account);

CREATE TABLE token (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL UNIQUE,
    scope TEXT NOT NULL,         -- `read`, `submit` or `admin`
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER
) STRICT;
CREATE INDEX token_by_account ON token (account);

-- Who uploaded what lies in `uploads/`.
CREATE TABLE upload (
    filename TEXT PRIMARY KEY,
    owner TEXT NOT NULL
) STRICT, WITHOUT ROWID;
