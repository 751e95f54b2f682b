package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration written as "30s" in JSON. Optional ones are pointers: nil means the default, zero means zero.
type Duration time.Duration

// MarshalJSON writes the duration as Go prints it.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads "1m30s".
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return errors.New(`a duration is written as "30s"`)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf(`%q is not a duration: write "30s"`, text)
	}
	*d = Duration(parsed)
	return nil
}

// Or returns the duration, or fallback if it is nil.
func (d *Duration) Or(fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return time.Duration(*d)
}

// Bytes is a size written as "512m" in JSON; units are powers of 1024.
type Bytes int64

// UnmarshalJSON reads a number of bytes, or a string with the unit b, k, m or g.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	text := strings.ToLower(strings.Trim(string(data), `"`))
	shift := map[byte]int{'k': 10, 'm': 20, 'g': 30}
	unit := 0
	if text != "" {
		if s, ok := shift[text[len(text)-1]]; ok {
			text, unit = text[:len(text)-1], s
		}
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "b"), 10, 64)
	if err != nil || n < 0 || n > 1<<62>>unit {
		return fmt.Errorf("%s is not a size: write \"512m\"", data)
	}
	*b = Bytes(n << unit)
	return nil
}
