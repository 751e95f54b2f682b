package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	docker "github.com/docker/docker/client"

	"github.com/shipgate/shipgate/builder"
	"github.com/shipgate/shipgate/deploy/dockerengine"
	"github.com/shipgate/shipgate/proxy"
	"github.com/shipgate/shipgate/store"
	"github.com/shipgate/shipgate/web"
)

const (
	doctorPatience = 10 * time.Second
	clockTolerance = 5 * time.Second
)

// finding says that something is well, or what is wrong with it and what to do.
func finding(well string, err error) store.Finding {
	problem, known := store.AsProblem(err)
	switch {
	case err == nil:
		return store.Finding{Level: store.LevelOK, Text: well}
	case known:
		return store.Finding{Level: store.LevelFail, Text: problem.Message, Hint: problem.Hint}
	}
	return store.Finding{Level: store.LevelFail, Text: err.Error()}
}

// surroundings are the services that can be examined while no server runs.
func (c *cli) surroundings() (*services, error) {
	dir, err := filepath.Abs(c.dataDir)
	if err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	found, _ := readServerFile(dir) // without it nothing of the server's is found on the engine
	s := &services{dir: dir, proxy: proxy.NewClient(dir), logger: logger(c.stderr, "text", nil)}
	if s.docker, err = docker.NewClientWithOpts(docker.FromEnv, docker.WithAPIVersionNegotiation()); err != nil {
		return nil, fmt.Errorf("set up Docker client: %w", err)
	}
	s.engine = dockerengine.New(dockerengine.Options{Docker: s.docker, ServerID: found.ServerID, Logger: s.logger})
	s.builder = builder.New(builder.Options{Docker: s.docker, SitesDir: filepath.Join(dir, "sites"), ServerID: found.ServerID, Logger: s.logger})
	return s, nil
}

// examine asks everything around the server how it is.
func (s *services) examine(ctx context.Context) web.Report {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	status, err := s.proxy.Status(ctx)
	report := web.Report{ProxyPID: status.PID}
	proxied := finding(fmt.Sprintf("proxy serves %s with %d routes, process %d", status.PublicAddr, status.Routes, status.PID), err)
	if err != nil && !proxy.Hangs(err) && !proxy.Stopped(s.dir) {
		proxied.Hint = "tail " + filepath.Join(s.dir, "logs", "proxy.log")
	}
	report.Findings = append(s.examineEngine(ctx), proxied,
		finding("disk space is enough for a build", s.builder.Preflight(ctx)),
		finding("data directory "+s.dir+" can be written", s.writeSomething()),
	)
	report.Findings = append(report.Findings, store.Examine(ctx, s.dir)...)
	if s.store != nil {
		report.ServerID = s.store.ServerID()
		if fault := s.store.WriteFault(); fault != nil {
			report.Findings = append(report.Findings, finding("", fault))
		}
		pool, err := s.engine.Pool(ctx)
		report.Findings = append(report.Findings, finding(poolText(pool), err))
		report.Findings = append(report.Findings, finding("containers of different apps cannot reach each other", s.engine.Separated(ctx)))
		report.Findings = append(report.Findings, s.github.Findings(ctx)...)
		report.Findings = append(report.Findings, s.policyFindings()...)
		report.Findings = append(report.Findings, s.appFindings(ctx)...)
	}
	return report
}

func poolText(pool store.AddressPool) string {
	if !pool.Subnet.IsValid() {
		return fmt.Sprintf("containers get a port of 127.0.0.1 from %d to %d", pool.FirstPort, pool.LastPort)
	}
	return fmt.Sprintf("containers get an address in %s", pool.Subnet)
}

// examineEngine compares its clock with ours, too: logs and certificates make no sense when they differ.
func (s *services) examineEngine(ctx context.Context) []store.Finding {
	if err := s.engine.Ping(ctx); err != nil {
		return []store.Finding{finding("", err)}
	}
	info, err := s.docker.Info(ctx)
	if err != nil {
		return []store.Finding{finding("", fmt.Errorf("ask Docker engine about itself: %w", err))}
	}
	answers := finding(fmt.Sprintf("Docker engine %s answers (%s, %s)", info.ServerVersion, info.OperatingSystem, info.Architecture), nil)
	return append([]store.Finding{answers}, examineClock(info.SystemTime, time.Now())...)
}

// examineClock finds nothing where the engine does not tell its time.
func examineClock(engine string, now time.Time) []store.Finding {
	theirs, err := time.Parse(time.RFC3339Nano, engine)
	if err != nil {
		return nil
	}
	ahead := theirs.Sub(now).Round(time.Second)
	if ahead.Abs() <= clockTolerance {
		return []store.Finding{{Level: store.LevelOK, Text: "the clocks of server and engine agree"}}
	}
	return []store.Finding{{
		Level: store.LevelWarn, Text: fmt.Sprintf("the engine's clock differs from the server's by %s", ahead), Hint: "timedatectl set-ntp true, on both machines",
	}}
}

// writeSomething tries the directory of the repositories, or the data directory before there are any.
func (s *services) writeSomething() error {
	dir := filepath.Join(s.dir, "repos")
	if _, err := os.Stat(dir); err != nil {
		dir = s.dir
	}
	file, err := os.CreateTemp(dir, ".doctor-*")
	if errors.Is(err, fs.ErrNotExist) {
		return store.Problemf(store.CodeErrored, "there is no data directory %s", dir).WithHint("shipgate serve --data %s makes it", dir)
	}
	if err != nil {
		return store.Problemf(store.CodeErrored, "write into data directory: %w", err).WithHint("ls -ld %s; df -h %s", dir, dir)
	}
	_, err = file.Write(make([]byte, 4096)) // an empty file can be made on a full disk
	if err = errors.Join(err, file.Sync(), file.Close(), os.Remove(file.Name())); err != nil {
		return fmt.Errorf("write into data directory: %w", err)
	}
	return nil
}
