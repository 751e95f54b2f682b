-- Secrets of the server itself, sealed with secret.key.
CREATE TABLE secrets (
    name   TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;

-- Webhook deliveries as they came: the queue of what is to be worked on, what keeps one from counting twice, and an audit trail.
CREATE TABLE deliveries (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    guid         TEXT NOT NULL UNIQUE,
    event        TEXT NOT NULL,
    content_type TEXT NOT NULL,
    body         BLOB NOT NULL,
    received_at  INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL DEFAULT 0,
    ended_at     INTEGER,
    outcome      TEXT NOT NULL DEFAULT '' -- one line: what came of it, or why it waits
) STRICT;

CREATE INDEX waiting_deliveries ON deliveries (id) WHERE ended_at IS NULL;

-- What the forge calls a repository by, so that a new name is known to be the same one.
CREATE TABLE repositories (
    id    INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    name  TEXT NOT NULL,
    since INTEGER NOT NULL -- when it was first told of by this name
) STRICT;

-- The newest push of each followed branch that the forge told of, or that was found there.
CREATE TABLE heads (
    app       INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    branch    TEXT NOT NULL,
    sha       TEXT NOT NULL,
    pushed_at INTEGER,
    PRIMARY KEY (app, branch)
) STRICT;

-- What the forge is to be told. A row needs nothing else of the database: an app may be gone before its verdict is out.
CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    lane         TEXT NOT NULL, -- those of one lane go out in their order
    kind         TEXT NOT NULL,
    app          TEXT NOT NULL,
    deployment   INTEGER NOT NULL,
    trigger_     TEXT NOT NULL,
    owner        TEXT NOT NULL,
    name         TEXT NOT NULL,
    sha          TEXT NOT NULL,
    environment  TEXT NOT NULL,
    verdict      TEXT NOT NULL, -- empty: pending
    reason       TEXT NOT NULL,
    host         TEXT NOT NULL,
    public_logs  INTEGER NOT NULL,
    took         INTEGER NOT NULL, -- microseconds from the request to the verdict
    created_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL DEFAULT 0,
    ended_at     INTEGER,
    outcome      TEXT NOT NULL DEFAULT '',
    answer       TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX waiting_posts ON outbox (lane, id) WHERE ended_at IS NULL;

CREATE INDEX posts_by_deployment ON outbox (deployment, kind, id);

-- The forge's own number of a deployment.
CREATE TABLE forge_deployments (
    deployment INTEGER PRIMARY KEY,
    forge_id   INTEGER NOT NULL
) STRICT;

-- A page asks for the few steps of a history that may have thousands of lines.
CREATE INDEX steps_by_deployment ON events (deployment, id) WHERE step <> '';
