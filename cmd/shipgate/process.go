package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/shipgate/shipgate/proxy"
)

// ensureProxy adopts the proxy that runs, or starts one. Of one that is stopped on purpose it stores the settings, for whoever
// starts it.
func (s *services) ensureProxy(ctx context.Context, public string) error {
	options, err := s.proxyOptions(public)
	if err != nil {
		return err
	}
	if proxy.Stopped(s.dir) {
		s.logger.Warn("the proxy is stopped on purpose, so no app is served; to start it: shipgate proxy start")
		s.proxy, s.public = proxy.NewClient(s.dir), public
		if err := proxy.StoreSettings(options); err != nil { // a full or read-only disk keeps the server from nothing
			s.logger.Error("store the proxy's settings", "error", err)
		}
		return nil
	}
	connection, status, err := proxy.Ensure(ctx, options)
	if err != nil {
		return err
	}
	if s.proxy == nil { // those who use it keep the first one
		s.proxy, s.ownProxy = connection, status.Started
	}
	s.public = status.PublicAddr
	return nil
}

func (s *services) proxyOptions(public string) (proxy.EnsureOptions, error) {
	executable, err := os.Executable()
	if err != nil {
		return proxy.EnsureOptions{}, fmt.Errorf("find own executable: %w", err)
	}
	return proxy.EnsureOptions{DataDir: s.dir, PublicAddr: public, TrustedProxies: s.trusted, Executable: executable, Logger: s.logger}, nil
}

// stopOwnProxy ends the proxy that a start of the server which failed has started. One that ran before stays.
func (s *services) stopOwnProxy(ctx context.Context) {
	if !s.ownProxy {
		return
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	if err := s.proxy.Stop(bounded); err != nil {
		s.logger.Warn("stop the proxy that this start began", "error", err)
	}
}

// superviseProxy starts the proxy again when its process ends, and says when it hangs, or works again. The channel it gives
// is closed when it has stopped looking.
func (s *services) superviseProxy(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := proxyWorks
		for ctx.Err() == nil {
			awaitEnd(ctx, filepath.Join(s.dir, "proxy.sock"), proxyLook)
			if ctx.Err() != nil {
				return
			}
			now, err := s.lookAtProxy(ctx)
			if ctx.Err() != nil {
				return
			}
			if now != last {
				s.sayProxy(now, err)
			}
			last = now
			if now != proxyWorks {
				waitFor(ctx, proxyPause)
			}
		}
	}()
	return done
}

// The states of the proxy that an operator is told of.
type proxyState int

const (
	proxyWorks proxyState = iota
	proxyHangs
	proxyStopped
	proxyFails
)

// lookAtProxy starts one where none runs, and replaces one of a lower generation that could not be replaced before.
func (s *services) lookAtProxy(ctx context.Context) (proxyState, error) {
	status, err := s.proxy.Status(ctx)
	switch {
	case err == nil && status.Generation < proxy.Generation:
		var options proxy.EnsureOptions
		if options, err = s.proxyOptions(s.public); err == nil {
			_, err = s.proxy.Renew(ctx, options, status)
		}
		if err != nil {
			return proxyFails, err
		}
		s.runner.Recheck() // the new one may be told what the old one did not understand
		return proxyWorks, nil
	case err == nil:
		return proxyWorks, nil
	case proxy.Hangs(err):
		return proxyHangs, err
	case proxy.Stopped(s.dir):
		return proxyStopped, err
	}
	if err := s.ensureProxy(ctx, s.public); err != nil {
		return proxyFails, err
	}
	s.runner.Recheck() // the new one may have started from an old snapshot, or from none
	return proxyWorks, nil
}

func (s *services) sayProxy(now proxyState, err error) {
	switch now {
	case proxyWorks:
		s.logger.Info("proxy works again")
	case proxyHangs:
		s.logger.Error("proxy hangs", "error", err)
	case proxyStopped:
		s.logger.Warn("the proxy is stopped on purpose, so no app is served; to start it: shipgate proxy start")
	case proxyFails:
		s.logger.Error("start proxy again", "error", err)
	}
}

func waitFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// awaitEnd returns when the other side of the socket goes away, ctx ends, or the time is over.
func awaitEnd(ctx context.Context, socket string, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	connection, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { connection.Close() })
	defer stop()
	defer connection.Close()
	_, _ = io.Copy(io.Discard, connection)
}

// writeServerFile tells commands on this machine where the server is. A reader sees the old file or the new one.
func writeServerFile(dir string, address serverFile) error {
	text, err := json.Marshal(address)
	if err != nil {
		return fmt.Errorf("encode server.json: %w", err)
	}
	path := filepath.Join(dir, "server.json")
	if err := errors.Join(os.WriteFile(path+".new", append(text, '\n'), 0o600), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("write server.json: %w", err)
	}
	return nil
}

// notifySystemd sends a state to the service manager, as sd_notify(3) describes it. Without one it does nothing.
func notifySystemd(getenv func(string) string, state string) {
	socket := getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	connection, err := net.Dial("unixgram", socket)
	if err != nil {
		return
	}
	defer connection.Close()
	_, _ = io.WriteString(connection, state)
}
