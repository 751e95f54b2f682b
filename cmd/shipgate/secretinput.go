package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/shipgate/shipgate/store"
)

const longestSecret = 1 << 20 // some are whole key files

// terminal returns the descriptor of standard input where a person sits at it.
func (c *cli) terminal() (fd int, is bool) {
	file, ok := c.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	return int(file.Fd()), true
}

// askSecret asks at a terminal, without echo.
func (c *cli) askSecret(ctx context.Context, fd int, prompt string) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("look at terminal: %w", err)
	}
	fmt.Fprint(c.stderr, prompt)
	typed := make(chan error, 1)
	var secret []byte
	go func() { // ends with the line, or with the process
		var err error
		secret, err = term.ReadPassword(fd)
		typed <- err
	}()
	select {
	case err = <-typed:
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		err = ctx.Err()
	}
	fmt.Fprintln(c.stderr)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return string(secret), nil
}

// readSecret reads all of standard input without its last line break.
func (c *cli) readSecret() (string, error) {
	text, err := io.ReadAll(io.LimitReader(c.stdin, longestSecret+1))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	if len(text) > longestSecret {
		return "", store.Problemf(store.CodeUsage, "standard input has more than %d bytes", longestSecret).
			WithHint("a variable is no place for a file: keep it in a volume, or in the image")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

// envValues reads what env set is to set: NAME=VALUE, NAME=- from standard input, NAME asked for at a terminal, and a file.
func (c *cli) envValues(ctx context.Context, args []string, file string) (map[string]string, error) {
	values := map[string]string{}
	if file != "" {
		text, err := c.envFile(file)
		if err == nil {
			err = parseDotenv(text, values)
		}
		if err != nil {
			return nil, store.Problemf(store.CodeUsage, "read %s: %w", file, err).WithHint("one NAME=VALUE a line: shipgate env APP set --from-file FILE")
		}
	}
	read := file == "-"
	for _, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		fd, person := c.terminal()
		var err error
		switch {
		case value == "-" && read:
			err = store.Problemf(store.CodeUsage, "standard input can be read only once").WithHint("shipgate env APP set --from-file -")
		case value == "-":
			read = true
			value, err = c.readSecret()
		case !given && person:
			value, err = c.askSecret(ctx, fd, name+": ")
		case !given:
			err = store.Problemf(store.CodeUsage, "%s has no value", arg).WithHint("%s=VALUE, or %s=- to read it from standard input", name, name)
		}
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

func (c *cli) envFile(file string) (string, error) {
	if file == "-" {
		return c.readSecret()
	}
	text, err := os.ReadFile(file)
	return string(text), err
}
