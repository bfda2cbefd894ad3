-- The chunk ledger, version 3. Times are seconds since the epoch; digests are raw bytes.
-- Changing it: add a migration to ledger_file.py, and raise nothing here by hand.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    id             TEXT PRIMARY KEY,
    endpoint       TEXT NOT NULL,        -- the Hub's; of a URL's job: file:// and the output's path
    repo           TEXT NOT NULL,        -- or the URL
    revision       TEXT NOT NULL,
    commit_hash    TEXT,                 -- NULL until resolved; of a URL's job: the SHA-256
    profile        TEXT NOT NULL,
    chunk_bytes    INTEGER,              -- the user's own, if any
    workers        INTEGER,
    state          TEXT NOT NULL,
    error          TEXT,                 -- JSON
    bytes_fetched  INTEGER NOT NULL DEFAULT 0,
    bytes_rescued  INTEGER NOT NULL DEFAULT 0,
    chunks_corrupt INTEGER NOT NULL DEFAULT 0,
    retries        INTEGER NOT NULL DEFAULT 0,
    created_s      REAL NOT NULL,
    priority       INTEGER NOT NULL DEFAULT 0,  -- 1 high, 0 normal, -1 low
    limit_bps      INTEGER                      -- the user's own, in bytes per second, if any
) STRICT;

-- NULLs differ from each other, so unresolved jobs do not collide.
CREATE UNIQUE INDEX jobs_by_commit ON jobs (endpoint, repo, commit_hash);

CREATE TABLE wants (                     -- what the callers asked for
    job_id   TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    quality  TEXT NOT NULL,
    files    TEXT NOT NULL,              -- JSON list of paths; [] means what the quality needs
    resolved INTEGER NOT NULL DEFAULT 0, -- 1: its files are in the table files
    PRIMARY KEY (job_id, quality, files)
) STRICT, WITHOUT ROWID;

CREATE TABLE refs (                      -- by which branches, tags or commits the job was asked for
    job_id   TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    revision TEXT NOT NULL,
    asked_s  REAL NOT NULL,              -- when that was last
    PRIMARY KEY (job_id, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE files (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    path   TEXT NOT NULL,
    etag   TEXT NOT NULL,
    size   INTEGER NOT NULL,
    state  TEXT NOT NULL,
    PRIMARY KEY (job_id, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE blobs (                     -- content by digest, whichever jobs want it
    etag        TEXT PRIMARY KEY,        -- of a URL's job: digest, colon, the output's path
    size        INTEGER NOT NULL,
    chunk_bytes INTEGER NOT NULL,
    boot_id     TEXT NOT NULL,           -- the boot in which the chunks were last trusted
    device      INTEGER NOT NULL,        -- the partial file they lie in
    inode       INTEGER NOT NULL,
    digest_kind TEXT NOT NULL DEFAULT 'sha256' -- of its chunks' digests: sha256 or xxh3
) STRICT, WITHOUT ROWID;

CREATE TABLE sources (                   -- files and folders that may hold bytes of a job's files
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    path   TEXT NOT NULL,
    PRIMARY KEY (job_id, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunks (                    -- a row once something of the chunk is durable
    etag          TEXT NOT NULL REFERENCES blobs (etag) ON DELETE CASCADE,
    idx           INTEGER NOT NULL,
    durable_bytes INTEGER NOT NULL,
    digest        BLOB,                  -- of the durable bytes
    done          INTEGER NOT NULL,
    suspicion     INTEGER NOT NULL,
    PRIMARY KEY (etag, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE checked (                   -- cache files whose digest was verified, by identity
    path     TEXT PRIMARY KEY,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
