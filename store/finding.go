package store

// Finding is one line of the doctor's report.
type Finding struct {
	Level string `json:"level"` // ok, warn or fail
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// The levels of a finding.
const (
	LevelOK   = "ok"
	LevelWarn = "warn"
	LevelFail = "fail"
)
