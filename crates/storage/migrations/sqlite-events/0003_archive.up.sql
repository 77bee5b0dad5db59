-- Positions whose events are no longer here, since they were archived: ranges that neither touch nor overlap. Positions
-- are given from behind the last of them as well as behind the newest event, so that none is ever given again.
CREATE TABLE archived (
    first_position INTEGER PRIMARY KEY,
    last_position  INTEGER NOT NULL CHECK (last_position >= first_position)
) STRICT;

-- A name that was only ever that of a session goes with the session's last event; any other stays. Of names that are here
-- already nobody knows.
ALTER TABLE names ADD COLUMN is_lasting INTEGER NOT NULL DEFAULT 1;
