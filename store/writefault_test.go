package store

import (
	"database/sql"
	"errors"
	"fmt"
	"syscall"
	"testing"
)

// A transaction that changes nothing succeeds on a full disk, too, so only one that writes says that there is room again.
func TestWriteFaultStaysUntilSomethingIsWritten(t *testing.T) {
	s := newStore(t)
	changed, stop := s.Watch(WriteFaultTopic)
	defer stop()
	s.noteWrite(errors.New("a constraint"))
	if s.WriteFault() != nil {
		t.Error("an error of a constraint is one of the disk")
	}
	s.noteWrite(fmt.Errorf("commit: %w", syscall.ENOSPC))
	<-changed
	for _, test := range []struct {
		query string
		fault bool
	}{
		{`SELECT 1`, true},
		{`DELETE FROM settings WHERE key = 'none'`, true},
		{`INSERT INTO settings (key, value) VALUES ('a', 'b')`, false},
	} {
		err := s.change(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.Exec(test.query)
			return err
		})
		if err != nil || (s.WriteFault() != nil) != test.fault {
			t.Errorf("%s: %v, fault %v", test.query, err, s.WriteFault())
		}
	}
	<-changed
}
