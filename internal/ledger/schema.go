package ledger

// Migrations is the schema of ledger.db, oldest first. A row is never edited
// once it was released: a change is a further row.
func Migrations() []string {
	return []string{`
CREATE TABLE meta (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a job. Times are Unix milliseconds, 0 for none.
CREATE TABLE jobs (
	id            TEXT PRIMARY KEY,
	note_id       TEXT NOT NULL,          -- the frontmatter's id, '' for none
	name          TEXT NOT NULL,          -- the file's name at the first claim
	name_key      TEXT NOT NULL,          -- the same without regard to case
	file          TEXT NOT NULL,          -- the file's name now
	file_key      TEXT NOT NULL,
	hash          TEXT NOT NULL,          -- of the note without what we write into it
	state         TEXT NOT NULL,
	reason        TEXT NOT NULL DEFAULT '',
	advice        TEXT NOT NULL DEFAULT '',
	job_type      TEXT NOT NULL,
	provider      TEXT NOT NULL,
	model         TEXT NOT NULL,
	title         TEXT NOT NULL,
	priority      INTEGER NOT NULL,
	retry_never   INTEGER NOT NULL,
	run           TEXT NOT NULL,
	attempt       INTEGER NOT NULL,
	steps         INTEGER NOT NULL,
	next_provider TEXT NOT NULL DEFAULT '', -- who is asked next, of a job that was put back
	output        TEXT NOT NULL DEFAULT '', -- the output note of this run
	partial       TEXT NOT NULL DEFAULT '', -- the note with a failed run's partial text
	first_seen    INTEGER NOT NULL,
	claimed       INTEGER NOT NULL DEFAULT 0,
	started       INTEGER NOT NULL DEFAULT 0,
	ended         INTEGER NOT NULL DEFAULT 0,
	settled       INTEGER NOT NULL DEFAULT 0, -- the note lies in its last folder and says how it ended
	unclaimed     INTEGER NOT NULL DEFAULT 0  -- refused without a claim: nothing is matched against it
) STRICT;
CREATE INDEX jobs_unsettled ON jobs (settled) WHERE settled = 0;
CREATE INDEX jobs_note_id ON jobs (note_id) WHERE note_id <> '';
CREATE INDEX jobs_name ON jobs (name_key);
CREATE INDEX jobs_file ON jobs (file_key);
CREATE INDEX jobs_hash ON jobs (hash, claimed);
CREATE INDEX jobs_ended ON jobs (ended);
CREATE INDEX jobs_run ON jobs (run);

-- What was asked, to know an edit of it again.
CREATE TABLE bodies (
	job  TEXT PRIMARY KEY REFERENCES jobs (id),
	body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a provider call, written before it is made.
CREATE TABLE calls (
	id       INTEGER PRIMARY KEY,
	job      TEXT NOT NULL REFERENCES jobs (id),
	run      TEXT NOT NULL,
	attempt  INTEGER NOT NULL,
	step     INTEGER NOT NULL,
	try      INTEGER NOT NULL,
	provider TEXT NOT NULL,
	model    TEXT NOT NULL,
	hash     TEXT NOT NULL,               -- of the request
	state    TEXT NOT NULL,               -- intent, answered or failed
	billed   INTEGER NOT NULL DEFAULT 1,  -- the provider may have billed it
	kind     TEXT NOT NULL DEFAULT '',    -- of the failure
	reason   TEXT NOT NULL DEFAULT '',
	estimate INTEGER NOT NULL,            -- tokens of the prompt, by our count
	read     INTEGER NOT NULL DEFAULT 0,
	written  INTEGER NOT NULL DEFAULT 0,
	started  INTEGER NOT NULL,
	ended    INTEGER NOT NULL DEFAULT 0,
	answer   TEXT NOT NULL DEFAULT ''     -- JSON: all of the answer but its text
) STRICT;
CREATE INDEX calls_job ON calls (job, step);
CREATE INDEX calls_run ON calls (run);

-- The texts, which leave some time after the output is durable.
CREATE TABLE answers (
	call     INTEGER PRIMARY KEY REFERENCES calls (id),
	text     TEXT NOT NULL,
	thinking TEXT NOT NULL
) STRICT;

-- When a note that still waits unclaimed was first seen.
CREATE TABLE sightings (
	name  TEXT PRIMARY KEY,
	since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`, `
-- Messages to the owner, in the order in which they are sent. A row stays, so
-- that its key is known; its body does not.
CREATE TABLE pings (
	id         INTEGER PRIMARY KEY,
	job        TEXT NOT NULL,              -- '' for a note that is no job
	kind       TEXT NOT NULL,
	key        TEXT NOT NULL UNIQUE,       -- what is told, once
	body       TEXT NOT NULL,              -- JSON, '' once it is sent or dropped
	created    INTEGER NOT NULL,
	next_try   INTEGER NOT NULL,
	tries      INTEGER NOT NULL DEFAULT 0, -- those that failed
	state      TEXT NOT NULL,              -- queued, sent or dropped
	ended      INTEGER NOT NULL DEFAULT 0,
	message_id TEXT NOT NULL DEFAULT '',   -- the receiver's name for it
	error      TEXT NOT NULL DEFAULT ''    -- of the last try
) STRICT;
CREATE INDEX pings_state ON pings (state);
`, `
-- What a call counts for the caps: of an intent its estimate, then the truth.
ALTER TABLE calls ADD COLUMN paid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN spent_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN spent_usd REAL NOT NULL DEFAULT 0;
CREATE INDEX calls_paid ON calls (started) WHERE paid = 1;

ALTER TABLE jobs ADD COLUMN trace TEXT NOT NULL DEFAULT '';   -- the id of its last trace
ALTER TABLE jobs ADD COLUMN sources TEXT NOT NULL DEFAULT ''; -- JSON: the notes that were given as context
`, `
-- One row a provider call for a conversation, written before it is made.
CREATE TABLE chat_calls (
	id           INTEGER PRIMARY KEY,
	conversation TEXT NOT NULL,
	turn         INTEGER NOT NULL,
	version      INTEGER NOT NULL,
	try          INTEGER NOT NULL,
	provider     TEXT NOT NULL,
	model        TEXT NOT NULL,
	hash         TEXT NOT NULL,
	state        TEXT NOT NULL,
	billed       INTEGER NOT NULL DEFAULT 1,
	kind         TEXT NOT NULL DEFAULT '',
	reason       TEXT NOT NULL DEFAULT '',
	estimate     INTEGER NOT NULL,
	read         INTEGER NOT NULL DEFAULT 0,
	written      INTEGER NOT NULL DEFAULT 0,
	paid         INTEGER NOT NULL DEFAULT 0,
	spent_tokens INTEGER NOT NULL DEFAULT 0,
	spent_usd    REAL NOT NULL DEFAULT 0,
	started      INTEGER NOT NULL,
	ended        INTEGER NOT NULL DEFAULT 0,
	answer       TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX chat_calls_conversation ON chat_calls (conversation);
CREATE INDEX chat_calls_paid ON chat_calls (started) WHERE paid = 1;

-- What counts for the caps, whoever asked. Of a conversation the job is ''.
CREATE VIEW spending (job, run, paid, spent_tokens, spent_usd, started) AS
	SELECT job, run, paid, spent_tokens, spent_usd, started FROM calls
	UNION ALL SELECT '', '', paid, spent_tokens, spent_usd, started FROM chat_calls;
`, `
-- Of a job that did not complete: the calls that may have been billed and are not in
-- its partial output, as the worker tells them, one a line.
ALTER TABLE jobs ADD COLUMN unaccounted TEXT NOT NULL DEFAULT '';

-- What counts, with how much of it is still an estimate: no tokens were told.
DROP VIEW spending;
CREATE VIEW spending (job, run, paid, spent_tokens, spent_usd, started, estimated) AS
	SELECT job, run, paid, spent_tokens, spent_usd, started, read + written = 0 FROM calls
	UNION ALL SELECT '', '', paid, spent_tokens, spent_usd, started, read + written = 0 FROM chat_calls;
`}
}
