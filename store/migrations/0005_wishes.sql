-- What a request wants of its one deployment, in place of what the app's config says.
ALTER TABLE deployments ADD COLUMN asked_strategy TEXT NOT NULL DEFAULT '';
ALTER TABLE deployments ADD COLUMN status_only INTEGER NOT NULL DEFAULT 0; -- no deployment at the forge

-- The commit at the forge that uploaded files were built from: it is told the verdict.
ALTER TABLE deployments ADD COLUMN built_from TEXT NOT NULL DEFAULT '';

-- The environment of the job whose identity a token was got for: the forge has its own deployment of it.
ALTER TABLE tokens ADD COLUMN environment TEXT NOT NULL DEFAULT '';
