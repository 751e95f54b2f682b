-- Until when the forge may still be working on a request whose answer was never recorded.
ALTER TABLE outbox ADD COLUMN doubt_until INTEGER;

CREATE INDEX doubtful_posts ON outbox (lane) WHERE doubt_until IS NOT NULL;

-- The newest deployment number when the app was stopped: that deployment and all before it are to serve nothing. A newer one
-- that goes live starts the app again. 0: the app is to run.
ALTER TABLE apps ADD COLUMN stopped_after INTEGER NOT NULL DEFAULT 0;
ALTER TABLE apps ADD COLUMN stopped_at INTEGER;

-- The last known state of each container of what is live.
CREATE TABLE container_states (
    app        INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    container  TEXT NOT NULL,
    deployment INTEGER NOT NULL, -- the live one
    service    TEXT NOT NULL,    -- of a stack; else empty
    routed     INTEGER NOT NULL, -- it is where requests go
    keep       INTEGER NOT NULL, -- the engine starts it again when it ends by itself
    state      TEXT NOT NULL,
    exit_code  INTEGER NOT NULL,
    restarts   INTEGER NOT NULL, -- by the engine, since it was last started by anybody else
    since      INTEGER NOT NULL, -- when it came into this state
    PRIMARY KEY (app, container)
) STRICT;

-- Apps that were destroyed: only what is known to have been ours is removed from the proxy and the engine.
CREATE TABLE destroyed_apps (
    name         TEXT PRIMARY KEY,
    destroyed_at INTEGER NOT NULL
) STRICT;

-- A health check without any time meant the default one and is refused now: 0s is zero.
UPDATE apps SET config = json_remove(config, '$.healthcheck.timeout')
    WHERE json_valid(config) AND json_extract(config, '$.healthcheck.timeout') NOT GLOB '*[1-9]*';
UPDATE releases SET config = json_remove(config, '$.healthcheck.timeout')
    WHERE json_valid(config) AND json_extract(config, '$.healthcheck.timeout') NOT GLOB '*[1-9]*';

-- Containers that earlier servers made, by the engine's id. Later ones have a label with their name. Recorded once.
CREATE TABLE adopted_containers (
    id   TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;

-- Docker's spelling of a volume's options was taken for a part of its path.
UPDATE apps SET config = json_set(config, '$.volumes', json((
    SELECT json_group_array(json(CASE WHEN instr(value ->> 'path', ':') = 0 THEN value ELSE json_patch(value, json_object(
        'path', substr(value ->> 'path', 1, instr(value ->> 'path', ':') - 1),
        'read_only', json(iif(',' || substr(value ->> 'path', instr(value ->> 'path', ':') + 1) || ',' LIKE '%,ro,%' OR value ->> 'read_only', 'true', 'false'))))
    END)) FROM json_each(config, '$.volumes'))))
    WHERE json_valid(config) AND EXISTS (SELECT 1 FROM json_each(config, '$.volumes') WHERE instr(value ->> 'path', ':') > 1);
UPDATE releases SET config = json_set(config, '$.volumes', json((
    SELECT json_group_array(json(CASE WHEN instr(value ->> 'path', ':') = 0 THEN value ELSE json_patch(value, json_object(
        'path', substr(value ->> 'path', 1, instr(value ->> 'path', ':') - 1),
        'read_only', json(iif(',' || substr(value ->> 'path', instr(value ->> 'path', ':') + 1) || ',' LIKE '%,ro,%' OR value ->> 'read_only', 'true', 'false'))))
    END)) FROM json_each(config, '$.volumes'))))
    WHERE json_valid(config) AND EXISTS (SELECT 1 FROM json_each(config, '$.volumes') WHERE instr(value ->> 'path', ':') > 1);
-- Tokens have a set of rights, separated by commas, in place of a scope. The scope deploy could change environment variables; the
-- right deploy cannot.
ALTER TABLE tokens RENAME COLUMN scope TO rights;
UPDATE tokens SET rights = CASE rights WHEN 'admin' THEN 'read,deploy,env,run,admin' WHEN 'deploy' THEN 'read,deploy' WHEN 'read' THEN 'read' ELSE '' END;

-- What an entry of the audit log is about: names, never secret values.
ALTER TABLE audit ADD COLUMN detail TEXT NOT NULL DEFAULT '';

-- A registry login is for one app, or for all. Those that were there are for all.
CREATE TABLE registry_logins (
    host       TEXT NOT NULL, -- as it stands in references, docker.io for Docker Hub
    app        INTEGER REFERENCES apps (id) ON DELETE CASCADE, -- NULL: all
    username   TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
INSERT INTO registry_logins SELECT host, NULL, username, sealed, updated_at FROM registries;
DROP TABLE registries;
ALTER TABLE registry_logins RENAME TO registries;
CREATE UNIQUE INDEX registry_of_app ON registries (host, ifnull(app, 0));
