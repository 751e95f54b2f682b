package dockerengine

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loudness is how much the container writes, in lines of 100 KB: 60 MB, or 1 GB with SHIPGATE_BIG=1.
func loudness() int {
	if os.Getenv("SHIPGATE_BIG") == "1" {
		return 10_000
	}
	return 600
}

// A container that logs more than anybody keeps costs a bounded part of the disk, answers on, and its last lines can be read.
func TestLoudContainer(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	made := l.start(t, spec)
	get(t, spec.Address, "/")
	noise := strings.Repeat("0123456789", 10_000)
	for range loudness() {
		get(t, spec.Address, "/log?line="+noise)
	}
	get(t, spec.Address, "/log?line=last")
	eventually(t, "the last line", func() bool {
		diagnosis, err := l.Diagnose(t.Context(), spec.Name, 1)
		return err == nil && len(diagnosis.Log) == 1 && diagnosis.Log[0] == "last"
	})
	info, err := l.docker.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(info.DockerRootDir, "containers", made.ID)
	if _, err := os.ReadDir(folder); err != nil {
		t.Skip("NOT TESTED, the engine's files cannot be read: ", err)
	}
	size := int64(0)
	err = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := entry.Info()
		if err == nil {
			size += file.Size()
		}
		return nil // a log that was rotated away meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	if size == 0 || size > 32<<20 {
		t.Errorf("the log takes %d MiB of the disk", size>>20)
	}
}
