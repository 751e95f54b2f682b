package main

import (
	"fmt"
	"strings"
)

// parseDotenv reads NAME=VALUE lines as .env files have them: with comments, "export", and values in quotes, which may span
// lines. In double quotes \n, \", \\ and \$ are escapes. Nothing is substituted: a $ in a secret is a $.
func parseDotenv(text string, into map[string]string) error {
	rest := strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n")
	for line := 1; rest != ""; {
		first, after, _ := strings.Cut(rest, "\n")
		trimmed := strings.TrimSpace(first)
		if trimmed == "" || trimmed[0] == '#' {
			rest, line = after, line+1
			continue
		}
		name, _, found := strings.Cut(strings.TrimSpace(strings.TrimPrefix(trimmed, "export ")), "=")
		if name = strings.TrimSpace(name); !found || name == "" || strings.ContainsAny(name, " \t\"'") {
			return fmt.Errorf("line %d is not NAME=VALUE", line)
		}
		value, remaining, err := dotenvValue(rest[strings.IndexByte(rest, '=')+1:])
		if err != nil {
			return fmt.Errorf("line %d: the value of %s %w", line, name, err)
		}
		into[name] = value
		line += strings.Count(rest[:len(rest)-len(remaining)], "\n")
		rest = remaining
	}
	return nil
}

// dotenvValue reads one value and gives what comes after its line.
func dotenvValue(text string) (value, rest string, err error) {
	text = strings.TrimLeft(text, " \t")
	if text == "" || (text[0] != '"' && text[0] != '\'') {
		value, rest, _ = strings.Cut(text, "\n")
		if at := strings.Index(" "+value, " #"); at >= 0 {
			value = value[:max(0, at-1)]
		}
		return strings.TrimSpace(value), rest, nil
	}
	var b strings.Builder
	quote := text[0]
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == quote:
			after, rest, _ := strings.Cut(text[i+1:], "\n")
			if after = strings.TrimSpace(after); after != "" && after[0] != '#' {
				return "", "", fmt.Errorf("goes on after its quote")
			}
			return b.String(), rest, nil
		case c == '\\' && quote == '"' && i+1 < len(text) && strings.IndexByte(`n"\$`, text[i+1]) >= 0:
			i++
			b.WriteByte(map[byte]byte{'n': '\n', '"': '"', '\\': '\\', '$': '$'}[text[i]])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("has no end of its quote")
}
