CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE apps (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    source     TEXT NOT NULL,
    config     TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0, -- of the app's route; grows with every change of it
    created_at INTEGER NOT NULL            -- all times: microseconds since 1970
) STRICT;

CREATE TABLE hosts (
    host     TEXT PRIMARY KEY,
    app      INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    position INTEGER NOT NULL
) STRICT;

-- A deployment's number is handed out before anything is done under it.
CREATE TABLE numbers (
    number INTEGER PRIMARY KEY AUTOINCREMENT
) STRICT;

CREATE TABLE releases (
    id         INTEGER PRIMARY KEY,
    app        INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    deployment INTEGER NOT NULL,
    sha        TEXT NOT NULL,
    artefact   TEXT NOT NULL,
    source     TEXT NOT NULL,
    config     TEXT NOT NULL,
    sealed_env BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE deployments (
    id              INTEGER PRIMARY KEY,
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    trigger_        TEXT NOT NULL,
    sha             TEXT NOT NULL,
    ref             TEXT NOT NULL,
    subject         TEXT NOT NULL,
    strategy        TEXT NOT NULL DEFAULT '',
    strategy_reason TEXT NOT NULL DEFAULT '',
    step            TEXT NOT NULL,
    verdict         TEXT NOT NULL DEFAULT '',
    pending         TEXT NOT NULL DEFAULT '', -- the verdict that undoing will end in
    reason          TEXT NOT NULL DEFAULT '',
    hint            TEXT NOT NULL DEFAULT '',
    release         INTEGER REFERENCES releases (id),
    container       TEXT NOT NULL DEFAULT '',
    address         TEXT NOT NULL DEFAULT '',
    previous        INTEGER NOT NULL DEFAULT 0,
    rollback_of     INTEGER NOT NULL DEFAULT 0,
    updates         TEXT NOT NULL DEFAULT '[]',
    cancel_asked    INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT,
    created_at      INTEGER NOT NULL,
    started_at      INTEGER,
    finished_at     INTEGER
) STRICT;

CREATE INDEX deployments_by_app ON deployments (app, id);

-- The lane: an app has one deployment at work at a time, whatever the code thinks.
CREATE UNIQUE INDEX one_active_deployment ON deployments (app)
    WHERE started_at IS NOT NULL AND step NOT IN ('done', 'undone');

CREATE INDEX unfinished_deployments ON deployments (id) WHERE step NOT IN ('done', 'undone');

CREATE UNIQUE INDEX idempotent_requests ON deployments (app, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE live (
    app        INTEGER PRIMARY KEY REFERENCES apps (id) ON DELETE CASCADE,
    deployment INTEGER NOT NULL REFERENCES deployments (id),
    release    INTEGER NOT NULL REFERENCES releases (id),
    sha        TEXT NOT NULL,
    container  TEXT NOT NULL,
    target     TEXT NOT NULL,
    since      INTEGER NOT NULL
) STRICT;

-- One line of a deployment's history; append-only.
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    deployment INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    step       TEXT NOT NULL,
    text       TEXT NOT NULL
) STRICT;

CREATE INDEX events_by_deployment ON events (deployment, id);

-- Addresses that containers hold, from before they are created until after they are removed.
CREATE TABLE addresses (
    address    TEXT PRIMARY KEY,
    deployment INTEGER NOT NULL UNIQUE REFERENCES deployments (id) ON DELETE CASCADE
) STRICT;

CREATE TABLE env (
    app    INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name   TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (app, name)
) STRICT;

CREATE TABLE tokens (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL,
    hash         BLOB NOT NULL UNIQUE, -- SHA-256 of the secret, which has 256 random bits
    app          TEXT NOT NULL,        -- empty: every app
    scope        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT;
