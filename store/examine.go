package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// Examine checks what a server keeps in its data directory, without changing anything: it works with whatever is left, and
// beside a server that runs.
func Examine(ctx context.Context, dir string) []Finding {
	x := &examination{ctx: ctx, dir: dir}
	x.directory()
	x.database()
	x.key()
	x.repositories()
	x.sites()
	x.snapshot()
	if x.db != nil {
		x.db.Close()
	}
	return x.findings
}

type examination struct {
	ctx      context.Context
	dir      string
	db       *sql.DB // nil: it cannot be read
	apps     int
	live     int
	findings []Finding
}

// add notes that something is well, or the error that says what is wrong.
func (x *examination) add(well string, err error) {
	if err == nil {
		x.findings = append(x.findings, Finding{Level: LevelOK, Text: well})
		return
	}
	finding := Finding{Level: LevelFail, Text: err.Error()}
	if problem, known := AsProblem(err); known {
		finding.Text, finding.Hint = problem.Message, problem.Hint
	}
	x.findings = append(x.findings, finding)
}

func (x *examination) directory() {
	info, err := os.Stat(x.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = Problemf(CodeErrored, "there is no data directory %s", x.dir).WithHint("shipgate serve --data %s makes it", x.dir)
	case err != nil:
	case ownerOf(info) != os.Geteuid():
		err = Problemf(CodeErrored, "the data directory %s belongs to user %d, and this is user %d", x.dir, ownerOf(info), os.Geteuid()).
			WithHint("run this as the user that the server runs as")
	case info.Mode().Perm()&0o077 != 0:
		err = Problemf(CodeErrored, "others may look into %s (mode %04o)", x.dir, info.Mode().Perm()).WithHint("chmod 0700 %s", x.dir)
	}
	x.add("data directory "+x.dir+" is private", err)
}

func (x *examination) database() {
	file := filepath.Join(x.dir, databaseName)
	err := checkDatabaseFile(x.dir)
	if info, missing := os.Stat(file); err == nil && (missing != nil || info.Size() == 0) {
		x.findings = append(x.findings, Finding{Level: LevelWarn, Text: "there is no database yet", Hint: "shipgate serve --data " + x.dir})
		return
	}
	if err == nil {
		err = x.openDatabase(file)
	}
	x.add(fmt.Sprintf("database %s is whole, with %d apps", file, x.apps), err)
}

// openDatabase reads the file without its log where not even the log's index can be made, as on a disk that is read-only.
func (x *examination) openDatabase(file string) error {
	var err error
	for _, how := range []string{"mode=ro", "mode=ro&immutable=1"} {
		var db *sql.DB
		if db, err = sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?_pragma=busy_timeout(5000)&"+how); err != nil {
			return fmt.Errorf("open database: %w", err)
		}
		if err = checkDatabase(x.ctx, db, x.dir); err == nil {
			err = db.QueryRowContext(x.ctx, `SELECT (SELECT count(*) FROM apps), (SELECT count(*) FROM live)`).Scan(&x.apps, &x.live)
		}
		if err == nil {
			x.db = db
			return nil
		}
		db.Close()
		if isDamaged(err) {
			return err
		}
	}
	return err
}

func (x *examination) key() {
	file := filepath.Join(x.dir, keyName)
	key, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && x.db == nil && len(remains(x.dir)) == 0:
		return
	case errors.Is(err, fs.ErrNotExist):
		err = keyProblem(x.dir, "is missing")
	case err == nil && x.db != nil:
		err = checkKey(x.ctx, x.db, x.dir, key)
	case err == nil && len(key) != keySize:
		err = keyProblem(x.dir, fmt.Sprintf("has %d bytes, not %d", len(key), keySize))
	}
	x.add(file+" is the key of this database", err)
}

func (x *examination) repositories() {
	if x.db == nil || x.apps > 0 {
		x.add("the repositories can be read", CheckRepositories(x.dir))
	}
}

// CheckRepositories refuses a directory of repositories that is missing or cannot be read. It is for data directories that
// have apps: a server makes it before it has any.
func CheckRepositories(dir string) error {
	repos := filepath.Join(dir, "repos")
	_, err := os.ReadDir(repos)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return Problemf(CodeErrored, "the directory of the repositories %s is missing, and there are apps", repos).
			WithHint("mount or restore it from your backup; if it is lost: mkdir %s, and push every app again", repos)
	}
	return Problemf(CodeErrored, "the directory of the repositories cannot be read: %w", err).WithHint("ls -ld %s", repos)
}

// sites looks for the files of all sites that are live.
func (x *examination) sites() {
	if x.db == nil {
		return
	}
	rows, err := x.db.QueryContext(x.ctx, `SELECT apps.name, live.sha, live.target FROM live JOIN apps ON apps.id = live.app ORDER BY apps.name`)
	if err != nil {
		x.add("", fmt.Errorf("read live sites: %w", err))
		return
	}
	defer rows.Close()
	for rows.Next() {
		var app, sha, text string
		var target Target
		err := rows.Scan(&app, &sha, &text)
		if err == nil {
			err = json.Unmarshal([]byte(text), &target)
		}
		if err == nil && target.Site == "" {
			continue
		}
		if err == nil {
			_, err = os.Stat(filepath.Join(target.Site, "manifest.json"))
		}
		if err != nil {
			err = Problemf(CodeErrored, "the files of the live site of %s cannot be read: %w", app, err).
				WithHint("restore %s from your backup, or once the server runs: shipgate deploy %s --ref %.8s", target.Site, app, sha)
		}
		x.add("the files of the site of "+app+" are there", err)
	}
	if err := rows.Err(); err != nil {
		x.add("", fmt.Errorf("read live sites: %w", err))
	}
}

// snapshot looks at the routes that the proxy would start with. The server puts them right from its database.
func (x *examination) snapshot() {
	last, lastErr := readRoutes(filepath.Join(x.dir, "proxy.json"))
	before, beforeErr := readRoutes(filepath.Join(x.dir, "proxy.json.prev"))
	hint := "the server puts the routes right when it starts: shipgate serve --data " + x.dir
	switch {
	case lastErr == nil:
		x.add(fmt.Sprintf("the proxy's routes can be read (%d in proxy.json)", last), nil)
	case beforeErr == nil:
		x.findings = append(x.findings, Finding{Level: LevelWarn, Hint: hint,
			Text: fmt.Sprintf("%s; a proxy that starts takes the %d routes of proxy.json.prev", lastErr, before)})
	case errors.Is(lastErr, fs.ErrNotExist) && x.live == 0:
	default:
		x.add("", Problemf(CodeErrored, "%s, and neither is proxy.json.prev; a proxy that starts has no routes", lastErr).WithHint("%s", hint))
	}
}

func readRoutes(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("the proxy's routes cannot be read: %w", err)
	}
	var snapshot struct{ Routes []json.RawMessage }
	if err := json.Unmarshal(text, &snapshot); err != nil {
		return 0, fmt.Errorf("%s is damaged: %w", file, err)
	}
	return len(snapshot.Routes), nil
}
