package history

// Migrations is the schema of history.db, oldest first. A row is never edited once
// it was released: a change is a further row.
func Migrations() []string {
	return []string{`
-- The truth: what was said, and as rows of role meta what was set. Times are Unix
-- milliseconds, 0 for none. The long columns come last, so that the others are
-- read without them.
CREATE TABLE messages (
	id           INTEGER PRIMARY KEY AUTOINCREMENT,
	conversation TEXT NOT NULL CHECK (conversation <> ''),
	turn         INTEGER NOT NULL,             -- from 1; 0 of meta
	version      INTEGER NOT NULL,             -- of an answer, from 1; else 0
	role         TEXT NOT NULL CHECK (role IN ('user', 'assistant', 'meta')),
	state        TEXT NOT NULL DEFAULT '' CHECK (state IN ('', 'done', 'stopped', 'failed', 'interrupted')),
	created      INTEGER NOT NULL,
	ended        INTEGER NOT NULL DEFAULT 0,
	provider     TEXT NOT NULL DEFAULT '',
	model        TEXT NOT NULL DEFAULT '',
	trace        TEXT NOT NULL DEFAULT '',
	reason       TEXT NOT NULL DEFAULT '',
	advice       TEXT NOT NULL DEFAULT '',
	answer       TEXT NOT NULL DEFAULT '',     -- JSON: all of the answer but its texts
	text         TEXT NOT NULL,                -- of meta JSON
	thinking     TEXT NOT NULL DEFAULT '',
	CHECK ((turn = 0) = (role = 'meta')),
	CHECK ((version > 0) = (role = 'assistant')),
	CHECK ((state <> '') = (role = 'assistant'))
) STRICT;
CREATE UNIQUE INDEX messages_turn ON messages (conversation, turn, version) WHERE turn > 0;
CREATE INDEX messages_meta ON messages (conversation, id) WHERE turn = 0;

-- Conversations whose rows are being removed for good; empty but for that moment.
CREATE TABLE purging (
	conversation TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TRIGGER messages_stay BEFORE UPDATE ON messages
BEGIN SELECT RAISE(ABORT, 'messages is append-only'); END;
CREATE TRIGGER messages_last BEFORE DELETE ON messages
WHEN NOT EXISTS (SELECT 1 FROM purging WHERE conversation = OLD.conversation)
BEGIN SELECT RAISE(ABORT, 'messages is append-only'); END;
-- INSERT OR REPLACE deletes without asking the trigger above.
CREATE TRIGGER messages_once BEFORE INSERT ON messages
WHEN EXISTS (SELECT 1 FROM messages WHERE id = NEW.id)
	OR EXISTS (SELECT 1 FROM messages WHERE conversation = NEW.conversation AND turn = NEW.turn AND version = NEW.version AND turn > 0)
BEGIN SELECT RAISE(ABORT, 'messages is append-only'); END;

-- Made from messages and kept beside them, so that lists are quick.
CREATE TABLE conversations (
	id      TEXT PRIMARY KEY,
	meta    INTEGER NOT NULL, -- the newest row of role meta
	created INTEGER NOT NULL,
	updated INTEGER NOT NULL, -- when the last message was written or ended
	turns   INTEGER NOT NULL,
	deleted INTEGER NOT NULL, -- when, 0 for a conversation that is there
	purged  INTEGER NOT NULL, -- only the mark of the deletion is left
	last    INTEGER NOT NULL  -- the newest row of all
) STRICT, WITHOUT ROWID;
CREATE INDEX conversations_updated ON conversations (updated, id) WHERE deleted = 0;
CREATE INDEX conversations_deleted ON conversations (deleted) WHERE deleted > 0 AND purged = 0;

-- Answers that have begun. An id is never used again: it names one answer.
CREATE TABLE running (
	id           INTEGER PRIMARY KEY AUTOINCREMENT,
	conversation TEXT NOT NULL,
	turn         INTEGER NOT NULL,
	version      INTEGER NOT NULL,
	provider     TEXT NOT NULL,
	model        TEXT NOT NULL,
	call         INTEGER NOT NULL, -- the ledger's, 0 while there is none
	trace        TEXT NOT NULL,
	created      INTEGER NOT NULL,
	since        INTEGER NOT NULL, -- the last row of pieces before its first
	UNIQUE (conversation, turn, version)
) STRICT;

-- The log of what running answers have said: one row for all the pieces of a
-- moment, so that a commit touches the end of one table, however many answers run.
CREATE TABLE pieces (
	id   INTEGER PRIMARY KEY,
	data BLOB NOT NULL
) STRICT;

CREATE TABLE sessions (
	hash    TEXT PRIMARY KEY, -- of the cookie
	kind    TEXT NOT NULL,
	created INTEGER NOT NULL,
	seen    INTEGER NOT NULL,
	expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_expires ON sessions (expires);
`}
}

// foldOne and foldAll bring conversations up to date with rows of messages, taken
// in the order of their ids: one way for each write and for Rebuild.
const (
	foldSome = `INSERT INTO conversations (id, meta, created, updated, turns, deleted, purged, last)
	SELECT conversation, iif(turn = 0, id, 0), created, iif(turn = 0, 0, max(created, ended)), turn,
		iif(turn = 0, iif(text ->> '$.deleted', created, 0), 0), iif(turn = 0, iif(text ->> '$.purged', 1, 0), 0), id
	FROM messages WHERE `
	foldInto = ` ON CONFLICT (id) DO UPDATE SET
		created = min(created, excluded.created), updated = max(updated, excluded.updated),
		turns = max(turns, excluded.turns), last = max(last, excluded.last), meta = max(meta, excluded.meta),
		deleted = iif(excluded.meta > meta, excluded.deleted, deleted), purged = iif(excluded.meta > meta, excluded.purged, purged)`

	foldOne = foldSome + "id = ?" + foldInto
	foldAll = foldSome + "true ORDER BY id" + foldInto
)
