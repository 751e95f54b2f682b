package builder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// stepLimiter limits the steps of one build on an engine that cannot do so itself. The engine runs each step in a
// control group of its own; the limiter sees the groups appear and writes the limits into those of its build.
type stepLimiter struct {
	bundles string // where the engine puts what runs in each group, by the group's id
	marker  string // in the environment of this build's steps
	applied func() // all limits of a step are set

	watch   *os.File
	parents map[int32][]setting // by inotify's number for the directory
	working sync.WaitGroup
	set     map[string]int // limits set so far, by id
	wanted  int
}

// setting is one limit: a file of a control group and what is to be written into it.
type setting struct {
	parent string // the control groups of steps appear in it
	file   string
	value  string
}

// settings gives where limits are to be written: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html and
// https://docs.kernel.org/admin-guide/cgroup-v2.html
func settings(root, version string, limits Limits) []setting {
	memory, quota := strconv.FormatInt(int64(limits.Memory), 10), strconv.FormatInt(limits.quota(), 10)
	if version == "2" {
		var all []setting
		for _, parent := range []string{root, filepath.Join(root, "docker", "buildkit")} {
			all = append(all, setting{parent, "memory.max", memory}, setting{parent, "cpu.max", quota + " " + strconv.Itoa(cpuPeriod)})
		}
		return all
	}
	return []setting{
		{filepath.Join(root, "memory", "docker", "buildkit"), "memory.limit_in_bytes", memory},
		{filepath.Join(root, "cpu", "docker", "buildkit"), "cpu.cfs_quota_us", quota},
	}
}

// startStepLimiter gives nil when this process cannot see or change the engine's control groups.
func startStepLimiter(on host, limits Limits, marker string, applied func()) *stepLimiter {
	l := &stepLimiter{
		bundles: filepath.Join(on.root, "buildkit", "executor"), marker: marker, applied: applied,
		parents: map[int32][]setting{}, set: map[string]int{}, wanted: 2,
	}
	if _, err := os.ReadDir(l.bundles); err != nil || os.Geteuid() != 0 {
		return nil
	}
	number, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	l.watch = os.NewFile(uintptr(number), "inotify")
	for _, s := range settings("/sys/fs/cgroup", on.cgroupVersion, limits) {
		// The engine makes the directory with its first step, which may be ours.
		if err := os.Mkdir(s.parent, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			continue
		}
		if directory, err := unix.InotifyAddWatch(number, s.parent, unix.IN_CREATE|unix.IN_ONLYDIR); err == nil {
			l.parents[int32(directory)] = append(l.parents[int32(directory)], s)
		}
	}
	l.working.Go(l.follow)
	return l
}

// stop waits for the limiter to end.
func (l *stepLimiter) stop() {
	if l == nil {
		return
	}
	_ = l.watch.Close() // ends the read
	l.working.Wait()
}

func (l *stepLimiter) follow() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.watch.Read(buffer)
		if err != nil {
			return
		}
		for events := buffer[:n]; len(events) >= unix.SizeofInotifyEvent; {
			directory := int32(binary.NativeEndian.Uint32(events))
			length := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
			name := string(bytes.TrimRight(events[unix.SizeofInotifyEvent:length], "\x00"))
			events = events[length:]
			l.appeared(l.parents[directory], name)
		}
	}
}

// appeared limits a new control group if it is one of ours.
func (l *stepLimiter) appeared(settings []setting, group string) {
	id := group[strings.LastIndexByte(group, ':')+1:] // with systemd: system.slice:docker:ID
	if !l.isOurs(id) {
		return
	}
	for _, s := range settings {
		if os.WriteFile(filepath.Join(s.parent, group, s.file), []byte(s.value), 0o644) == nil {
			l.set[id]++
		}
	}
	if l.set[id] == l.wanted {
		l.applied()
	}
}

// isOurs reads what the engine is about to run in the group: it is written before the group is made.
func (l *stepLimiter) isOurs(id string) bool {
	if id == "" || strings.ContainsRune(id, '/') {
		return false
	}
	bundle, err := os.ReadFile(filepath.Join(l.bundles, id, "config.json"))
	return err == nil && bytes.Contains(bundle, []byte(l.marker))
}
