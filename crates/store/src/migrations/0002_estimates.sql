-- JSON of domain::Estimate, and of the list of domain::Adjustment made after attempts that ran out of memory.
ALTER TABLE task ADD COLUMN estimate TEXT;
ALTER TABLE task ADD COLUMN adjustments TEXT NOT NULL DEFAULT '[]';
-- domain::Demand, so that a start-up need not read every recipe; null bytes: devices to itself.
ALTER TABLE task ADD COLUMN needed_devices INTEGER NOT NULL DEFAULT 1;
ALTER TABLE task ADD COLUMN needed_bytes INTEGER;

-- What finished attempts were measured to need; JSON of domain::Measurement.
CREATE TABLE measurement (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task INTEGER NOT NULL,
    at INTEGER NOT NULL,
    family TEXT NOT NULL,
    measurement TEXT NOT NULL
) STRICT;
CREATE INDEX measurement_by_family ON measurement (family, id);
