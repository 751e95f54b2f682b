package main

import (
	"time"

	"github.com/spf13/cobra"
)

// sourceFlags are the flags of what a source is made from and how it runs. Each stands for one field of the config.
type sourceFlags struct {
	image, mode, entrypoint, baseImage, composeFile, service string
	buildImage, buildCommand, buildOutput                    string
	release, stopSignal                                      string
	permissions                                              []string
	spa, cleanURLs, storage, trusted                         bool
	liveness, drain, hold, stopGrace, warm, keepAssets       time.Duration
}

func (f *sourceFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.image, "image", "", "image: its reference, as docker pull takes it")
	flags.StringVar(&f.mode, "mode", "", "static: static or deno")
	flags.BoolVar(&f.spa, "spa", false, "static: every page is index.html")
	flags.BoolVar(&f.cleanURLs, "clean-urls", false, "static: pages without .html")
	flags.DurationVar(&f.keepAssets, "keep-assets", 0, "static: how long files of earlier releases stay reachable (default 24h)")
	flags.StringVar(&f.buildImage, "build-image", "", "static: the image that makes the files")
	flags.StringVar(&f.buildCommand, "build-command", "", "static: the command that makes them")
	flags.StringVar(&f.buildOutput, "build-output", "", "static: the directory that it makes them in")
	flags.StringVar(&f.entrypoint, "entrypoint", "", "deno: the file that is run (default main.ts)")
	flags.StringVar(&f.baseImage, "base-image", "", "deno: the image with Deno in it (default denoland/deno)")
	flags.StringArrayVar(&f.permissions, "permission", nil, "deno: beyond the least, such as run=git; can be repeated")
	flags.BoolVar(&f.storage, "storage", false, "deno: a volume at /app/data that outlives deployments")
	flags.StringVar(&f.composeFile, "compose-file", "", "compose: the file (default compose.yaml)")
	flags.StringVar(&f.service, "service", "", "compose: the service that gets the requests")
	flags.BoolVar(&f.trusted, "trusted", false, "compose: allow what is refused otherwise, such as host ports")
	flags.StringVar(&f.release, "release-command", "", "run once in the new image before it starts; no shell")
	flags.StringVar(&f.stopSignal, "stop-signal", "", "asks the container to end (default: what the image says)")
	flags.DurationVar(&f.liveness, "liveness", 0, "without a health check: how long it must live and accept connections (default 2s)")
	flags.DurationVar(&f.drain, "drain", 0, "how long requests to the old version may go on (default 30s)")
	flags.DurationVar(&f.hold, "hold", 0, "recreate: how long new requests may wait (default 30s)")
	flags.DurationVar(&f.stopGrace, "stop-grace", 0, "how long it may take to end (default 10s)")
	flags.DurationVar(&f.warm, "rollback-warm", 0, "how long a replaced container is kept, stopped, for going back")
}

// put writes the fields whose flags were given.
func (f *sourceFlags) put(command *cobra.Command, config map[string]any) {
	given := command.Flags().Changed
	for flag, field := range map[string]struct {
		name  string
		value any
	}{
		"image": {"image", f.image}, "mode": {"mode", f.mode}, "spa": {"spa", f.spa}, "clean-urls": {"clean_urls", f.cleanURLs},
		"keep-assets": {"keep_assets", f.keepAssets.String()}, "entrypoint": {"entrypoint", f.entrypoint},
		"base-image": {"base_image", f.baseImage}, "permission": {"permissions", f.permissions},
		"storage": {"storage_enabled", f.storage}, "compose-file": {"file", f.composeFile}, "service": {"service", f.service},
		"trusted": {"trusted", f.trusted}, "release-command": {"release", f.release},
		"liveness": {"liveness", f.liveness.String()}, "drain": {"drain", f.drain.String()}, "hold": {"hold", f.hold.String()},
		"stop-signal": {"stop_signal", f.stopSignal}, "stop-grace": {"stop_grace", f.stopGrace.String()},
	} {
		if given(flag) {
			config[field.name] = field.value
		}
	}
	if given("rollback-warm") {
		config["rollback"] = map[string]any{"warm": f.warm.String()}
	}
	build := object(config, "build")
	for flag, field := range map[string]struct{ name, value string }{
		"build-image": {"image", f.buildImage}, "build-command": {"command", f.buildCommand}, "build-output": {"output", f.buildOutput},
	} {
		if given(flag) {
			build[field.name] = field.value
			config["build"] = build
		}
	}
}
