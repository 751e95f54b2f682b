-- Which workflows of a forge may deploy an app without a stored token.
CREATE TABLE trust (
    id            INTEGER PRIMARY KEY,
    app           INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    issuer        TEXT NOT NULL,
    repository    TEXT NOT NULL, -- OWNER/NAME, for people; the ids decide
    repository_id TEXT NOT NULL,
    owner_id      TEXT NOT NULL,
    ref           TEXT NOT NULL, -- a pattern; empty: any
    environment   TEXT NOT NULL, -- empty: any
    events        TEXT NOT NULL, -- JSON; empty: all but those of pull requests
    workflow      TEXT NOT NULL, -- empty: any
    created_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX trust_by_app ON trust (app);

-- Identity tokens that were exchanged, until they are out of time: each counts once.
CREATE TABLE exchanged (
    issuer     TEXT NOT NULL,
    number     TEXT NOT NULL, -- its jti
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, number)
) STRICT;

-- Who asked for what, and what came of it. It outlives apps, deployments and tokens.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    token      INTEGER NOT NULL, -- 0: none
    who        TEXT NOT NULL,    -- the token's name
    action     TEXT NOT NULL,
    app        TEXT NOT NULL,
    deployment INTEGER NOT NULL, -- 0: none
    outcome    TEXT NOT NULL,    -- done or refused
    reason     TEXT NOT NULL,
    remote     TEXT NOT NULL
) STRICT;

CREATE INDEX audit_by_app ON audit (app, id);
CREATE INDEX audit_by_time ON audit (at);
