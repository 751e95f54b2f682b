package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// logLimit is how large proxy.log grows. The one before it is kept as proxy.log.1.
const logLimit = 8 << 20

func logFile(dataDir string) string { return filepath.Join(dataDir, "logs", "proxy.log") }

func openLog(dataDir string) (*os.File, error) {
	name := logFile(dataDir)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	log, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of the proxy: %w", err)
	}
	return log, nil
}

// BoundLog returns a writer that keeps proxy.log within its bounds, when that is where out writes to.
func BoundLog(dataDir string, out io.Writer) io.Writer {
	file, is := out.(*os.File)
	if !is {
		return out
	}
	own, err := file.Stat()
	if err != nil {
		return out
	}
	if named, err := os.Stat(logFile(dataDir)); err != nil || !os.SameFile(own, named) {
		return out
	}
	return &boundedLog{file: file, name: logFile(dataDir), limit: logLimit}
}

// boundedLog empties the file when it is full: a process that takes over, and the runtime when it crashes, write to the
// same open file, so that it cannot be renamed.
type boundedLog struct {
	mu    sync.Mutex
	file  *os.File
	name  string
	limit int64
}

func (l *boundedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.Write(line)
	if info, statErr := l.file.Stat(); err == nil && statErr == nil && info.Size() > l.limit {
		err = l.rotate()
	}
	return n, err
}

func (l *boundedLog) rotate() (err error) {
	from, err := os.Open(l.name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(l.name+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.LimitReader(from, 2*l.limit))
	return errors.Join(err, to.Close(), l.file.Truncate(0)) // it is opened to append
}
