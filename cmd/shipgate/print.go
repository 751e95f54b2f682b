package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"
)

func (c *cli) get(ctx context.Context, path string, into any) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	return server.call(ctx, http.MethodGet, path, nil, into)
}

// print writes JSON where that was asked for, and else what people read.
func (c *cli) print(value any, human func(w io.Writer)) error {
	if !c.json {
		human(c.stdout)
		return nil
	}
	encoder := json.NewEncoder(c.stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func table(w io.Writer, rows [][]string) {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	columns.Flush()
}

// when says how long ago something was.
func when(t time.Time) string {
	ago := time.Since(t)
	switch {
	case t.IsZero():
		return "never"
	case ago < time.Minute:
		return fmt.Sprintf("%d s ago", int(ago.Seconds()))
	case ago < time.Hour:
		return fmt.Sprintf("%d min ago", int(ago.Minutes()))
	case ago < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(ago.Hours()))
	}
	return t.Local().Format("2006-01-02")
}
