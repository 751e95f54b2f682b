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

// ensureProxy adopts the proxy that runs, or starts one.
func (s *services) ensureProxy(ctx context.Context, public string) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own executable: %w", err)
	}
	connection, status, err := proxy.Ensure(ctx, proxy.EnsureOptions{DataDir: s.dir, PublicAddr: public, Executable: executable, Logger: s.logger})
	if err != nil {
		return err
	}
	s.proxy, s.public = connection, status.PublicAddr
	return nil
}

// superviseProxy starts the proxy again when its process ends, which its control socket tells: a connection to it ends.
// The channel it gives is closed when it has stopped looking.
func (s *services) superviseProxy(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			awaitEnd(ctx, filepath.Join(s.dir, "proxy.sock"))
			if ctx.Err() != nil {
				return
			}
			if _, err := s.proxy.Status(ctx); err == nil {
				continue // only the connection ended, or another process took over
			}
			if err := s.ensureProxy(ctx, s.public); err != nil && ctx.Err() == nil {
				s.logger.Error("start proxy again", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second): // the address may be taken for a moment
				}
			}
		}
	}()
	return done
}

// awaitEnd returns when the other side of the socket goes away, or ctx ends.
func awaitEnd(ctx context.Context, socket string) {
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
