package builder

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const manifestVersion = 2

// manifest says what a release tree serves. The proxy reads it.
type manifest struct {
	Version int                      `json:"version"`
	Files   map[string]manifestEntry `json:"files"` // by path in the site
	rules
}

type manifestEntry struct {
	Blob      string           `json:"blob"` // git's object id, a strong validator of the content
	Size      int64            `json:"size"`
	Encodings map[string]int64 `json:"encodings,omitempty"` // size of each encoded form, by content coding
}

// object is what is known of a stored blob: the sizes of its encoded forms, 0 where one is not worth it.
type object struct {
	size    int64
	tried   bool // encoding was tried
	encoded [len(codings)]int64
}

func (e *manifestEntry) add(coding string, size int64) {
	if e.Encodings == nil {
		e.Encodings = map[string]int64{}
	}
	e.Encodings[coding] = size
}

// catalogue is what a release knows of its objects, by key. It spares the next release the look at each of them.
type catalogue map[string]object

const catalogueName = "objects"

func (c catalogue) write(dir string) error {
	f, err := os.Create(filepath.Join(dir, catalogueName))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for key, o := range c {
		fmt.Fprintf(w, "%s %d %t", key, o.size, o.tried)
		for _, size := range o.encoded {
			fmt.Fprintf(w, " %d", size)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// readCatalogue gives what it can read: what is missing is found out again.
func readCatalogue(dir string) catalogue {
	known := catalogue{}
	data, err := os.ReadFile(filepath.Join(dir, catalogueName))
	if err != nil {
		return known
	}
	for line := range strings.Lines(string(data)) {
		if key, o, ok := parseObject(line); ok {
			known[key] = o
		}
	}
	return known
}

func parseObject(line string) (key string, o object, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 3+len(o.encoded) {
		return "", o, false
	}
	size, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return "", o, false
	}
	o.size, o.tried = size, fields[2] == "true"
	for i, field := range fields[3:] {
		if o.encoded[i], err = strconv.ParseInt(field, 10, 64); err != nil {
			return "", o, false
		}
	}
	return fields[0], o, true
}

// namesFile lists the paths of a release tree, each ended by a zero byte. It spares those who need only these the manifest,
// which is many times larger.
const namesFile = "names"

func (m manifest) write(dir string) error {
	var names strings.Builder
	for name := range m.Files {
		names.WriteString(name + "\x00")
	}
	if err := os.WriteFile(filepath.Join(dir, namesFile), []byte(names.String()), 0o644); err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(dir, "manifest.json"), data)
}

func writeDurably(name string, data []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
