-- An image that was asked for in place of the config's.
ALTER TABLE deployments ADD COLUMN image TEXT NOT NULL DEFAULT '';

-- When the artefact was removed to make room; until then a release can be gone back to.
ALTER TABLE releases ADD COLUMN pruned_at INTEGER;

-- Containers that were replaced and are kept, stopped, so that going back is quick.
CREATE TABLE warm (
    deployment INTEGER PRIMARY KEY REFERENCES deployments (id) ON DELETE CASCADE,
    until      INTEGER NOT NULL
) STRICT;

-- Credentials for registries, sealed with secret.key.
CREATE TABLE registries (
    host       TEXT PRIMARY KEY, -- as it stands in references, docker.io for Docker Hub
    username   TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
